"""One address for all models: OpenAI- and Anthropic-compatible, asleep or not. docs/gateway.md tells what it does."""
