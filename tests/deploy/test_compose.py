"""docker-compose.yml: what it is by its schema, what holds for every service, and that ours run as it says.

There is no Docker engine here: images are not built, and networks, volumes, limits and the other images' own programs
are not run. Redis is run where redis-server is installed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.deployed import ROOT, Missing, compose, env_file, health_command, image_environment, status_of

from cacheproxy.config import load

DEMO = env_file("demo.env")
FILE = compose(DEMO)
SERVICES = FILE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("cacheproxy")}
ENDING = {name for name, service in SERVICES.items() if service["restart"] == "no"}
"""Jobs, which end by themselves: nothing asks for their health."""
NEEDED = ("CACHEPROXY_ADMIN_TOKEN", "CACHEPROXY_PROXY_KEYS", "GRAFANA_ADMIN_PASSWORD")

every_service = pytest.mark.parametrize("name", SERVICES)


def test_it_is_what_the_compose_specification_says():
    done = subprocess.run(
        [
            Path(sys.executable).with_name("check-jsonschema"),
            "--builtin-schema",
            "vendor.compose-spec",
            ROOT / "docker-compose.yml",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NEEDED)
def test_without_its_secrets_nothing_starts(name):
    with pytest.raises(Missing, match=name):
        compose({**DEMO, name: ""})


def test_nothing_else_is_needed():
    assert compose(dict.fromkeys(NEEDED, "s" * 16))


@every_service
def test_only_loopback_addresses_are_published(name):
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@every_service
def test_every_image_has_a_version(name):
    version = SERVICES[name]["image"].partition(":")[2]
    assert re.search(r"\d+\.\d+", version), "latest is whatever is there on the day"


@every_service
def test_every_service_has_limits(name):
    assert SERVICES[name]["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert SERVICES[name]["logging"]["options"]["max-size"]


@every_service
def test_every_service_that_stays_has_a_health_check(name):
    assert ("test" in SERVICES[name]["healthcheck"]) == (name not in ENDING)


@every_service
def test_no_service_is_root_or_may_become_it(name):
    service = SERVICES[name]
    assert int(service["user"].partition(":")[0]) > 0
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "cap_add" not in service


@every_service
def test_every_root_file_system_is_read_only_and_mounts_of_the_checkout_too(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert all(mount.endswith(":ro") for mount in service.get("volumes", []) if mount.startswith("."))


@every_service
def test_whoever_is_waited_for_is_waited_for_until_it_is_well(name):
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert other not in ENDING
        assert set(SERVICES[other].get("profiles", [])) <= set(SERVICES[name].get("profiles", []))


@every_service
def test_every_volume_network_and_mounted_path_exists(name):
    service = SERVICES[name]
    assert set(service["networks"]) <= FILE["networks"].keys()
    for mount in service.get("volumes", []):
        source = mount.partition(":")[0]
        exists = (ROOT / source).exists() if source.startswith(".") else source in FILE["volumes"]
        assert exists, source


def test_the_store_is_reached_by_the_proxy_alone():
    assert FILE["networks"]["store"]["internal"] is True
    assert [name for name, service in SERVICES.items() if "store" in service["networks"]] == ["cacheproxy", "redis"]
    assert "ports" not in SERVICES["redis"]


def test_grafana_finds_its_dashboards_and_prometheus():
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards/cacheproxy.yml").read_text(encoding="utf-8"))["providers"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text(encoding="utf-8"))["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert set(SERVICES["grafana"]["networks"]) & set(SERVICES["prometheus"]["networks"])
    assert set(SERVICES["prometheus"]["networks"]) & set(SERVICES["cacheproxy"]["networks"])


def test_the_profiles_add_to_what_is_always_there():
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert profiles == {"backend": ["gpu"], "simulator": ["demo"], "traffic": ["demo"]}


def test_services_of_ours_are_built_from_the_targets_that_there_are():
    for name, service in OURS.items():
        assert service["build"]["dockerfile"] == "deploy/Dockerfile", name
        assert image_environment(service["build"]["target"]), name


def test_there_is_time_to_drain():
    proxy = SERVICES["cacheproxy"]
    settings = load(flags={}, environ=environment("cacheproxy")).settings
    grace_s = float(proxy["stop_grace_period"].removesuffix("s"))
    assert grace_s > settings.deadlines.drain_s + settings.deadlines.unready_s


@pytest.mark.parametrize("key", ["OPENAI_API_KEY", "ANTHROPIC_API_KEY"])
def test_a_provider_key_goes_out_only_where_it_is_asked_for_and_then_behind_keys(key):
    name = "DEFAULT" if key.startswith("OPENAI") else "ANTHROPIC"
    given = DEMO | {key: "sk-ours", "CACHEPROXY_UPSTREAM_URL": ""}
    quiet = load(flags={}, environ=environment("cacheproxy", given)).settings
    assert not any(upstream.injects_key for upstream in quiet.upstreams.values())

    given[f"CACHEPROXY_UPSTREAMS__{name}__API_KEY_ENV"] = key
    injecting = load(flags={}, environ=environment("cacheproxy", given)).settings
    assert injecting.upstreams[name.lower()].injects_key
    assert injecting.asks_key


def test_prometheus_finds_the_admin_token_in_memory_and_nowhere_else(tmp_path):
    service = SERVICES["prometheus"]
    (command,) = service["command"]
    assert service["tmpfs"][0].startswith("/run/cacheproxy:")
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    (job,) = [job for job in config["scrape_configs"] if "authorization" in job]
    assert job["authorization"]["credentials_file"] == "/run/cacheproxy/admin_token"
    assert job["static_configs"] == [{"targets": ["cacheproxy:8091"]}]
    program = tmp_path / "prometheus"  # stands for the real one, and tells what it was given
    program.write_text(f'#!/bin/sh\necho "$@"; env; ls -l {tmp_path}/admin_token; cat {tmp_path}/admin_token\n')
    program.chmod(0o755)
    done = subprocess.run(
        [*service["entrypoint"], command.replace("/run/cacheproxy", str(tmp_path))],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", **service["environment"]},
        capture_output=True,
        text=True,
        check=True,
    )
    said, token = done.stdout.rsplit("\n", 1)
    assert token == DEMO["CACHEPROXY_ADMIN_TOKEN"]
    assert token not in said
    assert "-rw------- " in said
    assert "--config.file=/etc/prometheus/prometheus.yml" in said


# --- our services, started


def environment(name, variables=DEMO):
    """A service's whole environment: its image's and its own."""
    service = compose(variables)["services"][name]
    return image_environment(service["build"]["target"]) | service.get("environment", {})


@pytest.fixture
def composed(place, start):
    """``composed(name, **changes)``: one of our services, running and well. Changes are to its variables."""
    sample = ROOT / "cacheproxy" / "data" / "banking77_sample.jsonl"
    place.paths["/questions.jsonl"] = str(sample)

    def run(name, *, command=None, **variables):
        service = compose(DEMO | variables)["services"][name]
        running = start(command or service["command"], environment(name, DEMO | variables))
        if name not in ENDING:
            running.until_healthy(health_command(service["healthcheck"]["test"], place))
        return running

    return run


def test_the_demo_runs_and_is_closed_to_whoever_has_no_key(composed, place, redis):
    composed("simulator")
    composed("cacheproxy")
    chat = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is a cache?"}]}

    refused, body = status_of(place.url(8090, "/v1/chat/completions"), **chat)
    assert (refused, "cacheproxy_unauthorized" in body) == (401, True)
    assert status_of(place.url(8091, "/metrics"))[0] == 401
    assert status_of(place.url(8090, "/v1/chat/completions"), token=DEMO["CACHEPROXY_PROXY_KEYS"], **chat)[0] == 200

    # Five thousand questions at the simulated LLM's speed would take half an hour.
    asked = [{"5000": "12"}.get(word, word) for word in OURS["traffic"]["command"]]
    status, said = composed("traffic", command=asked).output()
    assert status == 0, said
    _, metrics = status_of(place.url(8091, "/metrics"), token=DEMO["CACHEPROXY_ADMIN_TOKEN"])
    counted = re.findall(r'^cacheproxy_requests_total\{dialect="openai-chat".* ([\d.]+)$', metrics, re.MULTILINE)
    assert sum(map(float, counted)) >= 13


def test_the_local_model_answers_as_the_gpu_profile_starts_it(composed, place, tmp_path):
    model = str(tmp_path / "model")
    make_tiny_model(model)
    composed("backend", BACKEND_MODEL=model, BACKEND_DEVICE="cpu")  # no GPU here
    chat = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
    status, body = status_of(place.url(8100, "/v1/chat/completions"), **chat)
    assert (status, '"usage"' in body) == (200, True), body


def make_tiny_model(folder):
    """A language model that has learnt nothing, in the files that one has."""
    # Seconds, which nothing else here needs.
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: PLC0415

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator([], trainers.BpeTrainer(special_tokens=["<end>"], initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<end>", eos_token="<end>", bos_token="<end>")
    tokenizer.chat_template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    tokenizer.save_pretrained(folder)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=256, eos_token_id=0, pad_token_id=0, **shape
    )
    LlamaForCausalLM(config).save_pretrained(folder)
