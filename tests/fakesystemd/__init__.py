"""A stand-in for systemd and its bus: real D-Bus messages over a unix socket, real processes behind the units."""
