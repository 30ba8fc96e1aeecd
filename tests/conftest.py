"""Fixtures that tests of several folders share."""

from tests.realvllm.fixtures import fake_nvml, real_pair, real_servers, real_vllm

__all__ = ["fake_nvml", "real_pair", "real_servers", "real_vllm"]
