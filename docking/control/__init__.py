"""The local control channel: its server in the station, its client in the commands."""
