"""What is wrong with a host, and what to do: facts in, findings out. `sleepctl doctor` shows them; docs/doctor.md."""
