"""How fast the local backend is, against sequential generate, static batches and `transformers serve`.

    python benchmarks/backend.py                          a small model with random weights, made here
    python benchmarks/backend.py --shape 1b --device cuda
    python benchmarks/backend.py --model ./my-model --json figures.json

Speed does not depend on the weights' values, so models of any shape are made with random ones. All arms run in one
call on one machine; the servers answer over HTTP with streams, from which the time to first token is taken. The limits
of the device (bytes and operations per second) are measured, not taken from a data sheet.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHAPES: dict[str, dict[str, int]] = {
    "small": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 4},
    "100m": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32},
    "7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
}
TEMPLATE = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
VOCABULARY = 8192
START_S = 300.0


def make_model(shape: str, folder: str) -> None:
    """A Llama-shaped model with random weights, and a tokenizer of single bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "<s>", "</s>"]
    vocabulary = {token: number for number, token in enumerate([*special, *alphabet])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = TEMPLATE
    heads = SHAPES[shape]["num_attention_heads"]
    config = LlamaConfig(
        **SHAPES[shape],
        num_key_value_heads=max(heads // 4, 1),
        vocab_size=VOCABULARY,
        max_position_embeddings=2048,
        eos_token_id=2,
        bos_token_id=1,
        pad_token_id=0,
    )
    torch.manual_seed(1)
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def prompts(count: int, length: int) -> list[str]:
    """Different texts of one token a byte."""
    return [f"{number:06d} ".ljust(length, "abcdefgh"[number % 8])[: length - 1] for number in range(count)]


class Figures(list[dict[str, Any]]):
    """Rows of results, told as they come."""

    def add(self, arm: str, **row: Any) -> None:
        """Keep a row and show it."""
        self.append({"arm": arm, **row})
        told = "  ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
        )
        print(f"{arm:<28} {told}", flush=True)


# --- the library alone


def sequential(model: Any, asked: list[list[int]], new_tokens: int) -> tuple[float, float]:
    """One after the other: tokens per second, and per second of CPU time."""
    started, cpu = time.perf_counter(), time.process_time()
    tokens = 0
    for ids in asked:
        given = torch.tensor([ids], device=model.device)
        told = model.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=new_tokens, do_sample=False, pad_token_id=0
        )
        tokens += told.shape[1] - len(ids)
    return tokens / (time.perf_counter() - started), tokens / (time.process_time() - cpu)


def static(model: Any, asked: list[list[int]], new_tokens: int, size: int) -> tuple[float, float]:
    """In batches that end when the last of them does: the same two."""
    started, cpu = time.perf_counter(), time.process_time()
    tokens = 0
    for start in range(0, len(asked), size):
        given = torch.tensor(asked[start : start + size], device=model.device)
        told = model.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=new_tokens, do_sample=False, pad_token_id=0
        )
        tokens += told.numel() - given.numel()
    return tokens / (time.perf_counter() - started), tokens / (time.process_time() - cpu)


def limits(model: Any) -> tuple[float, float]:
    """Bytes and operations per second that this device gives a large copy and a large product."""
    device, dtype = model.device, model.dtype
    size = 8192 if device.type == "cuda" else 1024
    one = torch.randn(size, size, device=device, dtype=dtype)
    big = torch.empty(512 * 2**20 if device.type == "cuda" else 64 * 2**20, dtype=torch.uint8, device=device)
    other = torch.empty_like(big)
    return 2 * big.numel() / best(lambda: other.copy_(big), device), 2 * size**3 / best(lambda: one @ one, device)


def best(work: Callable[[], object], device: torch.device) -> float:
    """The shortest of several runs, in seconds."""
    times = []
    for _ in range(6):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def prefill(model: Any, length: int) -> float:
    """Tokens per second of reading a prompt."""
    ids = torch.randint(3, 250, (1, length), device=model.device)
    with torch.inference_mode():
        return length / best(lambda: model(ids, logits_to_keep=1), model.device)


# --- servers


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(command: list[str], url: str, log: Path) -> Iterator[psutil.Process]:
    """A process that serves; ended by its own id."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    try:
        asyncio.run(ready(process, url))
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def ready(process: subprocess.Popen[bytes], url: str) -> None:
    """Wait until it answers."""
    until = time.monotonic() + START_S
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < until:
            if process.poll() is not None:
                sys.exit(f"a server ended at its start: {process.args}")
            try:
                async with http.get(url) as response:
                    if response.ok:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)
    sys.exit("a server did not get ready")


async def load(base: str, model: str, texts: list[str], concurrency: int, new_tokens: int) -> tuple[float, list[float]]:
    """Tokens per second, and times to first token in seconds."""
    waiting = iter(texts)
    first, tokens = [], 0

    async def caller(http: aiohttp.ClientSession) -> None:
        nonlocal tokens
        for text in waiting:
            body = {
                "model": model,
                "messages": [{"role": "user", "content": text}],
                "max_tokens": new_tokens,
                "temperature": 0,
                "stream": True,
            }
            sent = time.perf_counter()
            begun = False
            async with http.post(f"{base}/v1/chat/completions", json=body) as response:
                if not response.ok:
                    sys.exit(f"{base} answered {response.status}: {await response.text()}")
                async for line in response.content:
                    if not line.startswith(b"data:") or b"[DONE]" in line:
                        continue
                    if (
                        not begun
                        and b'"content":"' in line.replace(b": ", b":")
                        and b'"content":""' not in line.replace(b": ", b":")
                    ):
                        begun = True
                        first.append(time.perf_counter() - sent)
            tokens += new_tokens

    started = time.perf_counter()
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
        await asyncio.gather(*(caller(http) for _ in range(concurrency)))
    return tokens / (time.perf_counter() - started), first


def measure_server(
    figures: Figures,
    arm: str,
    command: list[str],
    base: str,
    health: str,
    model: str,
    options: argparse.Namespace,
    log: Path,
) -> None:
    """One server at every concurrency."""
    with server(command, base + health, log) as process:
        asyncio.run(load(base, model, prompts(2, options.prompt_tokens), 2, options.new_tokens))
        for concurrency in options.concurrency:
            texts = prompts(max(concurrency * options.rounds, 4), options.prompt_tokens)
            before = sum(process.cpu_times()[:2])
            rate, first = asyncio.run(load(base, model, texts, concurrency, options.new_tokens))
            cpu_s = sum(process.cpu_times()[:2]) - before
            per_cpu_s = round(len(texts) * options.new_tokens / cpu_s, 1)
            median = round(1000 * statistics.median(first), 1) if first else None
            figures.add(
                arm,
                concurrency=concurrency,
                tokens_per_s=round(rate, 1),
                tokens_per_cpu_s=per_cpu_s,
                first_token_ms=median,
            )


def backend_command(folder: str, port: int, options: argparse.Namespace, *more: str) -> list[str]:
    """How the backend is started."""
    program = Path(sys.executable).with_name("cacheproxy")
    command = [program, "backend", folder, "--name", "m", "--listen", f"127.0.0.1:{port}", "--device", options.device]
    running = ["--max-running", str(options.max_running)] if options.max_running else []
    return [*map(str, command), *running, *more]


# --- all of it


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a folder; otherwise one with random weights is made")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--concurrency", type=lambda text: [int(one) for one in text.split(",")], default=[1, 8, 32, 128]
    )
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2, help="requests per caller")
    parser.add_argument("--max-running", type=int, help="of the backend; its own default if left out")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    figures = Figures()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.model or str(Path(scratch) / "model")
        if options.model is None:
            make_model(options.shape, folder)
        measure(figures, folder, Path(scratch) / "servers.log", options)
    if options.json:
        options.json.write_text(
            json.dumps({"device": device_name(options.device), "figures": figures}, indent=1) + "\n"
        )


def measure(figures: Figures, folder: str, log: Path, options: argparse.Namespace) -> None:
    """Every arm that generates."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    dtype = torch.bfloat16 if options.device.startswith("cuda") else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(options.device).eval()
    parameters = model.num_parameters()
    multiplied = sum(p.numel() for name, p in model.named_parameters() if "layers" in name)
    weight_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    print(f"{device_name(options.device)}; {parameters / 1e6:.1f}M parameters in {dtype}", flush=True)
    asked = [tokenizer.encode(text + "\n") for text in prompts(128, options.prompt_tokens)]
    sequential(model, asked[:1], options.new_tokens)
    alone, cpu = sequential(model, asked[:4], options.new_tokens)
    figures.add("sequential generate", concurrency=1, tokens_per_s=round(alone, 1), tokens_per_cpu_s=round(cpu, 1))
    for size in options.concurrency:
        rate, cpu = static(model, asked[:size], options.new_tokens, size)
        figures.add("static batches", concurrency=size, tokens_per_s=round(rate, 1), tokens_per_cpu_s=round(cpu, 1))
    bandwidth, operations = limits(model)
    reading = prefill(model, 1024)
    figures.add(
        "limits",
        bandwidth_gb_s=round(bandwidth / 1e9, 1),
        gflop_s=round(operations / 1e9, 1),
        decode_share_of_bandwidth=round(alone * weight_bytes / bandwidth, 2),
        prefill_share_of_compute=round(2 * multiplied * reading / operations, 2),
    )
    del model
    variants = {
        "backend": (),
        "backend int8": ("--quantize", "int8"),
        "backend int4": ("--quantize", "int4"),
        "backend prompt look-up": ("--prompt-lookup", "4"),
    }
    for arm, more in variants.items():
        port = free_port()
        measure_server(
            figures,
            arm,
            backend_command(folder, port, options, *more),
            f"http://127.0.0.1:{port}",
            "/readyz",
            "m",
            options,
            log,
        )
    program = shutil.which("transformers", path=str(Path(sys.executable).parent))
    if program is None or find_spec("fastapi") is None:
        print("transformers serve: not measured, its server is not installed (pip install 'transformers[serving]')")
        return
    port = free_port()
    command = [program, "serve", folder, "--port", str(port), "--device", options.device, "--continuous-batching"]
    measure_server(figures, "transformers serve", command, f"http://127.0.0.1:{port}", "/health", folder, options, log)


def device_name(device: str) -> str:
    """What the figures were taken on."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return f"{model.partition(':')[2].strip() or platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
