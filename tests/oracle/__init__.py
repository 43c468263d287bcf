"""The oracle: whatever is suspended, captured, restored and resumed gives what the undisturbed run gives."""
