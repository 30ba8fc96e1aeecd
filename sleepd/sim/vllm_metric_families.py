"""The metric families of a vLLM server, as data: names, help texts, extra labels and buckets recorded from 0.32.0.

The page is as long as a real one (about 600 lines fresh, 680 and more after some traffic), so what reads it pays what
it would pay in earnest.
"""

from __future__ import annotations

TOKENS = ("1.0", "2.0", "5.0", "10.0", "20.0", "50.0", "100.0", "200.0", "500.0", "1000.0", "2000.0", "+Inf")
STEP_TOKENS = (
    *("1.0", "8.0", "16.0", "32.0", "64.0", "128.0", "256.0", "512.0", "1024.0", "2048.0", "4096.0", "8192.0"),
    *("16384.0", "+Inf"),
)
FEW = ("1.0", "2.0", "5.0", "10.0", "20.0", "+Inf")
PREEMPTIONS = ("1.0", "2.0", "3.0", "4.0", "5.0", "10.0", "20.0", "+Inf")
FIRST_TOKEN_S = (
    *("0.001", "0.005", "0.01", "0.02", "0.04", "0.06", "0.08", "0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0"),
    *("7.5", "10.0", "20.0", "40.0", "80.0", "160.0", "640.0", "2560.0", "+Inf"),
)
TOKEN_S = (
    *("0.01", "0.025", "0.05", "0.075", "0.1", "0.15", "0.2", "0.3", "0.4", "0.5", "0.75", "1.0", "2.5", "5.0", "7.5"),
    *("10.0", "20.0", "40.0", "80.0", "+Inf"),
)
REQUEST_S = (
    *("0.3", "0.5", "0.8", "1.0", "1.5", "2.0", "2.5", "5.0", "10.0", "15.0", "20.0", "30.0", "40.0", "50.0", "60.0"),
    *("120.0", "240.0", "480.0", "960.0", "1920.0", "7680.0", "+Inf"),
)
HTTP_S = (
    *("0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1.0", "1.5", "2.0", "2.5", "3.0", "3.5", "4.0"),
    *("4.5", "5.0", "7.5", "10.0", "30.0", "60.0", "+Inf"),
)
HANDLER_S = ("0.1", "0.5", "1.0", "+Inf")
OPERATION_S = ("0.01", "0.1", "1.0", "10.0", "30.0", "60.0", "120.0", "300.0", "600.0", "+Inf")

PYTHON: tuple[tuple[str, str, str], ...] = (
    ("python_gc_objects_collected_total", "Objects collected during gc", "13013.0"),
    ("python_gc_objects_uncollectable_total", "Uncollectable objects found during GC", "0.0"),
    ("python_gc_collections_total", "Number of times this generation was collected", "134.0"),
)
"""name, help, value for each of three generations."""

_REASONS = ("stop", "length", "abort", "error", "repetition")
_SHARING = "from KV connector cross-instance cache sharing"
_FLOPS = "(for Model Flops Utilization calculations)."
COUNTERS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    (
        "vllm:estimated_flops_per_gpu_total",
        f"Estimated number of floating point operations per GPU {_FLOPS}",
        "",
        ("",),
    ),
    (
        "vllm:estimated_read_bytes_per_gpu_total",
        f"Estimated number of bytes read from memory per GPU {_FLOPS}",
        "",
        ("",),
    ),
    (
        "vllm:estimated_write_bytes_per_gpu_total",
        f"Estimated number of bytes written to memory per GPU {_FLOPS}",
        "",
        ("",),
    ),
    ("vllm:prefix_cache_queries_total", "Prefix cache queries, in terms of number of queried tokens.", "", ("",)),
    ("vllm:prefix_cache_hits_total", "Prefix cache hits, in terms of number of cached tokens.", "", ("",)),
    (
        "vllm:external_prefix_cache_queries_total",
        f"External prefix cache queries {_SHARING}, in terms of number of queried tokens.",
        "",
        ("",),
    ),
    (
        "vllm:external_prefix_cache_hits_total",
        f"External prefix cache hits {_SHARING}, in terms of number of cached tokens.",
        "",
        ("",),
    ),
    ("vllm:mm_cache_queries_total", "Multi-modal cache queries, in terms of number of queried items.", "", ("",)),
    ("vllm:mm_cache_hits_total", "Multi-modal cache hits, in terms of number of cached items.", "", ("",)),
    ("vllm:num_preemptions_total", "Cumulative number of preemption from the engine.", "", ("",)),
    ("vllm:prompt_tokens_total", "Number of prefill tokens processed.", "", ("",)),
    (
        "vllm:prompt_tokens_by_source_total",
        "Number of prompt tokens by source.",
        "source",
        ("local_compute", "local_cache_hit", "external_kv_transfer"),
    ),
    ("vllm:prompt_tokens_cached_total", "Number of cached prompt tokens (local + external).", "", ("",)),
    (
        "vllm:prompt_tokens_cached_by_source_total",
        "Prefix-cache hit tokens by the cache tier that supplied them.",
        "source",
        ("device", "host", "p2p", "disk", "external_unspecified"),
    ),
    ("vllm:generation_tokens_total", "Number of generation tokens processed.", "", ("",)),
    ("vllm:request_success_total", "Count of successfully processed requests.", "finished_reason", _REASONS),
    (
        "vllm:admission_rejections_total",
        "Number of admission attempts rejected by a queue limit, by reason.",
        "reason",
        ("max_num_queued_reqs", "max_num_queued_tokens"),
    ),
)
"""name, help, extra label, its values (one empty value: no extra label)."""

HISTOGRAMS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("vllm:request_prompt_tokens", "Number of prefill tokens processed.", TOKENS),
    ("vllm:request_generation_tokens", "Number of generation tokens processed.", TOKENS),
    ("vllm:iteration_tokens_total", "Histogram of number of tokens per engine_step.", STEP_TOKENS),
    (
        "vllm:request_max_num_generation_tokens",
        "Histogram of maximum number of requested generation tokens.",
        TOKENS,
    ),
    ("vllm:request_params_n", "Histogram of the n request parameter.", FEW),
    ("vllm:request_params_max_tokens", "Histogram of the max_tokens request parameter.", TOKENS),
    ("vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", FIRST_TOKEN_S),
    ("vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", TOKEN_S),
    (
        "vllm:request_time_per_output_token_seconds",
        "Histogram of time_per_output_token_seconds per request.",
        TOKEN_S,
    ),
    ("vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", REQUEST_S),
    ("vllm:request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", REQUEST_S),
    ("vllm:request_inference_time_seconds", "Histogram of time spent in RUNNING phase for request.", REQUEST_S),
    ("vllm:request_prefill_time_seconds", "Histogram of time spent in PREFILL phase for request.", REQUEST_S),
    ("vllm:request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.", REQUEST_S),
    (
        "vllm:request_num_preemptions",
        "Histogram of the number of times a request was preempted.",
        PREEMPTIONS,
    ),
    (
        "vllm:request_prefill_kv_computed_tokens",
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
        TOKENS,
    ),
)
"""name, help, buckets."""
