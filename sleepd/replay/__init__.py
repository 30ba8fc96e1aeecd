"""Traffic of the past or of the future played against a policy in virtual time: `sleepd simulate`."""
