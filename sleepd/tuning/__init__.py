"""`sleepd tune`: which timeouts a host's own traffic asks for, found on its idle gaps and proven by replay."""
