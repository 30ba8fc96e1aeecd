"""Makes tiny Llama models that vLLM can serve: `tiny_model.py DIRECTORY SEED...` writes DIRECTORY/tiny-SEED for each.

The weights are random. The same seed gives the same weights, and two seeds answer the same prompt differently at
temperature 0, so an answer tells which weights are loaded, and whether they are loaded right. The tokenizer knows all
256 bytes: any text round-trips. Runs in the virtual environment that install.py makes; needs no network.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HIDDEN = 64
HEAD = 32  # vLLM's CPU attention takes head sizes 32, 64, 80, ... (vllm/v1/attention/backends/cpu_attn.py)
LAYERS = 2
VOCABULARY = 384
CONTEXT = 4096

SPECIAL = ("<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CORPUS = (
    "A sleeping model keeps its weights in host memory until somebody asks for it.",
    "The quick brown fox jumps over the lazy dog.",
    "0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ",
)


def train_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE over CORPUS, whose merges only fill the vocabulary: the 256 bytes are what matters."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 8, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def draw_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Random weights of this seed, made so that a request always runs to its max_tokens."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HIDDEN // HEAD,
        num_key_value_heads=HIDDEN // HEAD,
        head_dim=HEAD,
        max_position_embeddings=CONTEXT,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
        initializer_range=0.5,  # wide, so that the most likely token leads clearly and float noise never changes it
        dtype="float32",
    )
    model = LlamaForCausalLM(config).to(torch.float32).eval()
    with torch.no_grad():  # logit 0 never wins: no end-of-text, no role marker in the middle of an answer
        model.lm_head.weight[: len(SPECIAL)] = 0.0
    return model


def write_model(directory: Path, seed: int) -> None:
    """`directory` holds a complete model (config, weights, tokenizer, chat template)."""
    tokenizer = train_tokenizer()
    model = draw_model(tokenizer, seed)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print("usage: tiny_model.py DIRECTORY SEED...", file=sys.stderr)
        return 2
    for seed in arguments[1:]:
        write_model(Path(arguments[0]) / f"tiny-{seed}", int(seed))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
