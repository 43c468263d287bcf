"""Messages between stations other than handoffs."""
