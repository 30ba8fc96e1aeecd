"""What runs on this host, seen by whoever asks: vLLM servers found, asked and told. `sleepd init` writes it down."""
