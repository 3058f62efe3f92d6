"""Write small sparse autoencoders as other libraries do, or read ours as they do.

It runs in an environment with these libraries, where this one need not be:

    pip install sae-lens eai-sparsify nnsight && pip install --no-deps dictionary-learning
    python write.py golden                    a directory for each format, with expected.npz: x, codes, outputs
    python write.py --read DIR LIBRARY        reads DIR as "saelens" or "sparsify" does, and writes DIR/theirs.npz of
                                              the rows in DIR/x.npy
"""

import json
import pathlib
import sys

import numpy as np
import sae_lens
import torch
from dictionary_learning import dictionary
from dictionary_learning.trainers import batch_top_k, matryoshka_batch_top_k, top_k
from sae_lens.loading import pretrained_sae_loaders as loaders
from sae_lens.saes import batchtopk_sae, gated_sae, jumprelu_sae, standard_sae, topk_sae, transcoder
from safetensors.torch import save_file
from sparsify import SparseCoder, SparseCoderConfig

FEATURES, UNITS, OUTPUTS, K, ROWS = 12, 24, 10, 5, 8


def randomise(module):
    """Give all parameters random values, and thresholds some above 0."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape))
            if name == "threshold":
                parameter.copy_(torch.rand(parameter.shape))
    return module


def rows():
    return 2 * torch.randn(ROWS, FEATURES) + 0.5


def expect(directory, x, codes, outputs):
    np.savez(directory / "expected.npz", x=x.numpy(), codes=codes.numpy(), outputs=outputs.numpy())


def saelens(out):
    shared = {"d_in": FEATURES, "d_sae": UNITS, "apply_b_dec_to_input": True}
    across = {"d_in": FEATURES, "d_sae": UNITS, "d_out": OUTPUTS, "apply_b_dec_to_input": False}
    norm = {**shared, "normalize_activations": "layer_norm"}
    rescaled = {**shared, "normalize_activations": "constant_norm_rescale"}
    made = {
        "standard": (standard_sae.StandardSAE, standard_sae.StandardSAEConfig(**shared)),
        "half": (standard_sae.StandardSAE, standard_sae.StandardSAEConfig(**shared, dtype="bfloat16")),
        "topk": (topk_sae.TopKSAE, topk_sae.TopKSAEConfig(**shared, k=K)),
        "topk_norms": (topk_sae.TopKSAE, topk_sae.TopKSAEConfig(**shared, k=K, rescale_acts_by_decoder_norm=True)),
        "jumprelu": (jumprelu_sae.JumpReLUSAE, jumprelu_sae.JumpReLUSAEConfig(**shared)),
        "gated": (gated_sae.GatedSAE, gated_sae.GatedSAEConfig(**shared)),
        "layer_norm": (topk_sae.TopKSAE, topk_sae.TopKSAEConfig(**norm, k=K)),
        "norm_rescale": (standard_sae.StandardSAE, standard_sae.StandardSAEConfig(**rescaled)),
        "transcoder": (transcoder.Transcoder, transcoder.TranscoderConfig(**across)),
        "skip_transcoder": (transcoder.SkipTranscoder, transcoder.SkipTranscoderConfig(**across)),
        "jumprelu_skip_transcoder": (
            transcoder.JumpReLUSkipTranscoder,
            transcoder.JumpReLUSkipTranscoderConfig(**across),
        ),
    }
    for name, (kind, config) in made.items():
        sae = randomise(kind(config))
        directory = out / f"saelens_{name}"
        sae.save_model(directory)
        sae = sae_lens.SAE.load_from_disk(directory, dtype="float32")
        x = rows()
        expect(directory, x, sae.encode(x), sae(x))
    config = batchtopk_sae.BatchTopKTrainingSAEConfig(
        d_in=FEATURES, d_sae=UNITS, k=K, rescale_acts_by_decoder_norm=True
    )
    sae = randomise(batchtopk_sae.BatchTopKTrainingSAE(config))
    sae.topk_threshold = torch.tensor(1.5, dtype=sae.topk_threshold.dtype)
    directory = out / "saelens_batchtopk"
    sae.save_inference_model(directory)
    sae.save_model(out / "saelens_batchtopk_training")  # of a training that went on: the same codes
    sae = sae_lens.SAE.load_from_disk(directory)
    x = rows()
    for place in (directory, out / "saelens_batchtopk_training"):
        expect(place, x, sae.encode(x), sae(x))
    old_saelens(out / "saelens_old")


def old_saelens(directory):
    """Write a directory as versions before 6 did: no version, other names."""
    sae = randomise(topk_sae.TopKSAE(topk_sae.TopKSAEConfig(d_in=FEATURES, d_sae=UNITS, k=K)))
    directory.mkdir(parents=True)
    save_file({**sae.state_dict(), "scaling_factor": torch.ones(UNITS)}, directory / "sae_weights.safetensors")
    config = {
        "d_in": FEATURES, "d_sae": UNITS, "dtype": "float32", "hook_point": "blocks.8.hook_resid_pre",
        "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "normalize_activations": False,
    }  # fmt: skip
    (directory / "cfg.json").write_text(json.dumps(config))
    sae = sae_lens.SAE.load_from_disk(directory)
    x = rows()
    expect(directory, x, sae.encode(x), sae(x))


def scopes(out):
    """Write Gemma Scope and Llama Scope directories, and read them by the loaders of SAELens."""
    scopes = out / "scopes"

    def local(repo_id, filename, subfolder="", **_):
        path = scopes / subfolder / filename
        if not path.exists():
            raise loaders.EntryNotFoundError("no such file")
        return path

    loaders.hf_hub_download = local
    loaders.get_safetensors_tensor_shapes = lambda repo, name: {
        key: list(value.shape) for key, value in loaders.load_safetensors_weights(scopes / name).items()
    }
    sizes = {"d_in": FEATURES, "d_sae": UNITS, "dtype": "float32"}
    tensors = {name: 0.5 * torch.randn(shape) for name, shape in (
        ("w_enc", (FEATURES, UNITS)), ("w_dec", (UNITS, FEATURES)), ("b_enc", (UNITS,)), ("b_dec", (FEATURES,)),
    )}  # fmt: skip
    tensors["threshold"] = torch.rand(UNITS)

    name = "layer_3/width_16k/average_l0_5"
    for name in ("layer_3/width_16k/average_l0_5", "embedding/width_4k/average_l0_6"):
        (scopes / name).mkdir(parents=True)
        first = {key.replace("w_", "W_"): value.numpy() for key, value in tensors.items()}
        np.savez(scopes / name / "params.npz", **first)
        read(scopes / name, loaders.gemma_2_sae_huggingface_loader, "gemma-scope-2b-pt-res", name, sizes)

    name = "resid_post/layer_7_width_16k_l0_small"
    (scopes / name).mkdir(parents=True)
    save_file(tensors, scopes / name / "params.safetensors")
    config = {"architecture": "jump_relu", "model_name": "gemma-v3-1b-pt", "hf_hook_point_in": "model.layers.7.output"}
    (scopes / name / "config.json").write_text(json.dumps(config))
    read(scopes / name, loaders.gemma_3_sae_huggingface_loader, "google/gemma-scope-2-1b-pt", name, sizes)

    name = "transcoder/layer_7_width_16k_l0_small_affine"
    (scopes / name).mkdir(parents=True)
    skip = {"affine_skip_connection": torch.randn(FEATURES, FEATURES)}
    save_file({**tensors, **skip}, scopes / name / "params.safetensors")
    config |= {"hf_hook_point_out": "model.layers.7.mlp.output", "affine_connection": True}
    (scopes / name / "config.json").write_text(json.dumps(config))
    read(scopes / name, loaders.gemma_3_sae_huggingface_loader, "google/gemma-scope-2-1b-pt", name, sizes)

    linear = {
        "encoder.weight": tensors["w_enc"].T.contiguous(), "encoder.bias": tensors["b_enc"],
        "decoder.weight": tensors["w_dec"].T.contiguous(), "decoder.bias": tensors["b_dec"],
    }  # fmt: skip
    name, norm = "Llama3_1-8B-Base-L8R-8x", 6.3125
    (scopes / name / "checkpoints").mkdir(parents=True)
    save_file(linear, scopes / name / "checkpoints" / "final.safetensors")
    config = {
        "d_model": FEATURES, "d_sae": UNITS, "hook_point_in": "blocks.8.hook_resid_post", "act_fn": "jumprelu",
        "hook_point_out": "blocks.8.hook_resid_post", "jump_relu_threshold": 0.2, "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": norm, "out": norm}, "apply_decoder_bias_to_pre_encoder": False,
    }  # fmt: skip
    (scopes / name / "hyperparams.json").write_text(json.dumps(config))
    factor = FEATURES**0.5 / norm
    read(scopes / name, loaders.llama_scope_sae_huggingface_loader, "fnlp/x", name, {"dtype": "float32"}, factor)

    name, hook = "800M-Slimpajama-0-OpenR1-Math-220k/L8R", "blocks.8.hook_resid_post"
    (scopes / name).mkdir(parents=True)
    extra = {
        "log_jumprelu_threshold": torch.log(tensors["threshold"]),
        f"dataset_average_activation_norm.{hook}": torch.tensor(norm),
    }
    save_file({**linear, **extra}, scopes / name / "sae_weights.safetensors")
    config = {"d_model": FEATURES, "expansion_factor": UNITS // FEATURES, "act_fn": "jumprelu", "hook_point_in": hook,
              "hook_point_out": hook, "norm_activation": "dataset-wise"}  # fmt: skip
    (scopes / name / "config.json").write_text(json.dumps(config))
    read(scopes / name, loaders.llama_scope_r1_distill_sae_huggingface_loader, "fnlp/x", name, {}, factor)


def read(directory, loader, repository, name, overrides, factor=None):
    config, state, _ = loader(repository, name, "cpu", False, overrides)
    config = loaders.handle_config_defaulting(config)
    kind, kind_of_config = sae_lens.registry.get_sae_class(config["architecture"])
    sae = kind(kind_of_config.from_dict(config))
    sae.load_state_dict({key: value.contiguous() for key, value in state.items()})
    if factor is not None:
        sae.fold_activation_norm_scaling_factor(factor)
    x = rows()
    expect(directory, x, sae.encode(x), sae(x))


def sparsify(out):
    for name, options in (("topk", {}), ("transcoder", {"transcode": True, "skip_connection": True})):
        coder = randomise(SparseCoder(FEATURES, SparseCoderConfig(num_latents=UNITS, k=K, **options)))
        directory = out / f"sparsify_{name}" / "layers.3"
        coder.save_to_disk(directory)
        x = rows()
        expect(directory, x, *of_sparsify(SparseCoder.load_from_disk(directory), x))


def of_sparsify(coder, x):
    found = coder(x)
    codes = torch.zeros(len(x), coder.num_latents)
    return codes.scatter_(1, found.latent_indices, found.latent_acts), found.sae_out


def dictionary_learning(out):
    made = {
        "AutoEncoder": dictionary.AutoEncoder(FEATURES, UNITS),
        "AutoEncoderNew": dictionary.AutoEncoderNew(FEATURES, UNITS),
        "GatedAutoEncoder": dictionary.GatedAutoEncoder(FEATURES, UNITS),
        "JumpReluAutoEncoder": dictionary.JumpReluAutoEncoder(FEATURES, UNITS),
        "AutoEncoderTopK": top_k.AutoEncoderTopK(FEATURES, UNITS, K),
        "BatchTopKSAE": batch_top_k.BatchTopKSAE(FEATURES, UNITS, K),
        "MatryoshkaBatchTopKSAE": matryoshka_batch_top_k.MatryoshkaBatchTopKSAE(FEATURES, UNITS, K, [8, 16]),
    }
    for name, model in made.items():
        randomise(model)
        if hasattr(model, "k"):
            model.threshold = torch.tensor(0.9)
        directory = out / f"dictionary_learning_{name}"
        directory.mkdir(parents=True)
        torch.save(model.state_dict(), directory / "ae.pt")
        trainer = {"dict_class": name, "activation_dim": FEATURES, "dict_size": UNITS, "layer": 3, "lm_name": "gpt2"}
        (directory / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"ctx_len": 128}}))
        x = rows()
        expect(directory, x, model.encode(x), model(x))


def openai(out):
    """As openai/sparse_autoencoder, model.py, which is in no registry, writes and computes."""
    state = {name: 0.5 * torch.randn(shape) for name, shape in (
        ("pre_bias", (FEATURES,)), ("encoder.weight", (UNITS, FEATURES)), ("latent_bias", (UNITS,)),
        ("decoder.weight", (FEATURES, UNITS)), ("latents_mean_square", (UNITS,)),
    )}  # fmt: skip
    for name in ("ReLU", "TopK"):
        x = rows()
        mean, size = x.mean(1, keepdim=True), x.std(1, keepdim=True)
        inputs = (x - mean) / (size + 1e-5) if name == "TopK" else x
        codes = torch.relu((inputs - state["pre_bias"]) @ state["encoder.weight"].T + state["latent_bias"])
        extra = {"activation": "ReLU", "activation_state_dict": {}}
        if name == "TopK":
            codes = codes * (codes >= codes.topk(K).values[:, -1:])
            extra = {"activation": "TopK", "activation_state_dict": {"k": K, "postact_fn": "ReLU"}}
        outputs = codes @ state["decoder.weight"].T + state["pre_bias"]
        outputs = outputs * size + mean if name == "TopK" else outputs
        directory = out / f"openai_{name}"
        directory.mkdir(parents=True)
        torch.save({**state, **extra}, directory / "autoencoder.pt")
        expect(directory, x, codes, outputs)


def read_ours(directory, library):
    """Write the codes and outputs that another library computes for x.npy of what we saved for it."""
    x = torch.tensor(np.load(directory / "x.npy"))
    if library == "saelens":
        sae = sae_lens.SAE.load_from_disk(directory)
        codes, outputs = sae.encode(x), sae(x)
    else:
        codes, outputs = of_sparsify(SparseCoder.load_from_disk(directory), x)
    np.savez(directory / "theirs.npz", codes=codes.numpy(), outputs=outputs.numpy())


if __name__ == "__main__":
    with torch.no_grad():
        if sys.argv[1] == "--read":
            read_ours(pathlib.Path(sys.argv[2]), sys.argv[3])
        else:
            torch.manual_seed(0)
            for write in (saelens, scopes, sparsify, dictionary_learning, openai):
                write(pathlib.Path(sys.argv[1]))
