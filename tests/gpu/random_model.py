"""Makes Llama models with random weights, on the GPU: `python -m tests.gpu.random_model DIRECTORY GIB SEED...`.

Writes DIRECTORY/random-SEED with about GIB of bfloat16 weights in layers as large as an 8B model's. As with the tiny
models two seeds answer the same prompt differently at temperature 0, so an answer tells which weights are loaded. Runs
in the Python that vLLM is installed in; needs no network.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, LlamaConfig

from tests.realvllm.tiny_model import CONTEXT, SPECIAL, train_tokenizer

GIB = 1 << 30
HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD = 4096, 14336, 32, 8, 128
PROJECTIONS = {
    "self_attn.q_proj": (HEADS * HEAD, HIDDEN),
    "self_attn.k_proj": (KV_HEADS * HEAD, HIDDEN),
    "self_attn.v_proj": (KV_HEADS * HEAD, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HEADS * HEAD),
    "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
    "mlp.up_proj": (INTERMEDIATE, HIDDEN),
    "mlp.down_proj": (HIDDEN, INTERMEDIATE),
}
NORMS = ("input_layernorm", "post_attention_layernorm")
LAYER_BYTES = 2 * sum(rows * columns for rows, columns in PROJECTIONS.values())
LAYER_SPREAD = 0.02
LAST_SPREAD = 0.5
"""Wide, so that the most likely token leads clearly and rounding never changes it."""


def draw_shards(seed: int, layers: int, vocabulary: int) -> Iterator[dict[str, torch.Tensor]]:
    """The weights of this seed, a layer at a time, the ends last."""
    random = torch.Generator("cuda").manual_seed(seed)

    def draw(*shape: int, spread: float) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.bfloat16, device="cuda").normal_(0, spread, generator=random)

    ones = torch.ones(HIDDEN, dtype=torch.bfloat16)
    for layer in range(layers):
        stem = f"model.layers.{layer}"
        shard = {f"{stem}.{name}.weight": draw(*shape, spread=LAYER_SPREAD) for name, shape in PROJECTIONS.items()}
        yield shard | {
            f"{stem}.{name}.weight": ones.clone() for name in ("input_layernorm", "post_attention_layernorm")
        }
    last = draw(vocabulary, HIDDEN, spread=LAST_SPREAD)
    last[: len(SPECIAL)] = 0.0  # logit 0 never wins: no end-of-text, no role marker in the middle of an answer
    first = draw(vocabulary, HIDDEN, spread=1.0)
    yield {"model.embed_tokens.weight": first, "model.norm.weight": ones.clone(), "lm_head.weight": last}


def write_model(directory: Path, gib: float, seed: int) -> None:
    """`directory` holds a complete model; one that is there is left as it is."""
    if (directory / "model.safetensors.index.json").exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer()
    tokenizer.save_pretrained(directory)
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    layers = max(2, round(gib * GIB / LAYER_BYTES))
    LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        dtype="bfloat16",
        **ends,
    ).save_pretrained(directory)
    GenerationConfig(**ends).save_pretrained(directory)
    files: dict[str, str] = {}
    for number, shard in enumerate(draw_shards(seed, layers, len(tokenizer))):
        file = f"model-{number:05}.safetensors"
        save_file(shard, directory / file, {"format": "pt"})
        files |= dict.fromkeys(shard, file)
    index = {"metadata": {}, "weight_map": files}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def main(arguments: list[str]) -> int:
    if len(arguments) < 3:
        print("usage: random_model.py DIRECTORY GIB SEED...", file=sys.stderr)
        return 2
    for seed in arguments[2:]:
        write_model(Path(arguments[0]) / f"random-{seed}", float(arguments[1]), int(seed))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
