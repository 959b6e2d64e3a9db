"""Make every golden of this folder with the public Python libraries. See README.md.

    pip install -r requirements.txt
    python make_goldens.py [CASE...]

Weights are rounded to float16 and stored so; models, inputs and outputs are float32. Every model is read back from its files by
diffusers or transformers, and must give the same outputs, before its golden is written.
"""
import copy
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import reference as ref
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel, UNet2DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

HERE = Path(__file__).parent
SD15_SCHEDULER = {  # the published scheduler_config.json of Stable Diffusion 1.5
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
    "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
    "clip_sample": False}


def fresh(case):
    folder = HERE / case
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def save(path, **tensors):
    save_file({name: t.detach().contiguous() for name, t in tensors.items()}, path)


def randomised(model, seed):
    """Give vectors (norms, biases) values that are not all one or zero, and round every weight to float16."""
    g = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.data = (p + 0.1 * torch.randn(p.shape, generator=g) if p.ndim == 1 else p).detach().half().float()
    return model.eval().requires_grad_(False)


def save_model(model, folder, **options):
    copy.deepcopy(model).half().save_pretrained(folder, **options)


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def record(case, model, inputs, outputs, load=None):
    """Save the model and what `outputs(model)` gives; `load` reads it back."""
    folder = fresh(case)
    save_model(model, folder)
    results = outputs(model)
    reloaded = outputs((load or type(model).from_pretrained)(folder, torch_dtype=torch.float32).eval())
    assert all(torch.equal(results[k], reloaded[k]) and results[k].isfinite().all() for k in results), case
    save(folder / "golden.safetensors", **inputs, **results)


# U-Nets -------------------------------------------------------------------------------------------------------------------

def conditional_unet(seed=0, **changes):
    torch.manual_seed(seed)
    config = dict(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(16, 32, 32), layers_per_block=2, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=24, attention_head_dim=4)
    return randomised(UNet2DConditionModel(**(config | changes)), seed)


def unet_inputs(height=16, width=16):
    return dict(sample=noise(1, 2, 4, height, width), timestep=torch.tensor([7, 981]), encoder_hidden_states=noise(2, 2, 7, 24))


def record_unet(case, model, inputs):
    record(case, model, inputs, lambda m: dict(output=m(**inputs).sample.detach()))


def unet_sd1():
    record_unet("unet-sd1", conditional_unet(), unet_inputs())


def unet_sd2():
    """Linear projections, heads per level, attention in float32 where asked: Stable Diffusion 2.1's settings."""
    record_unet("unet-sd2", conditional_unet(
        use_linear_projection=True, attention_head_dim=(2, 4, 4), upcast_attention=True, layers_per_block=1), unet_inputs())


def odd_unet():
    return conditional_unet(
        layers_per_block=1, block_out_channels=(16, 16, 16), mid_block_type="UNetMidBlock2D", transformer_layers_per_block=2,
        flip_sin_to_cos=False, freq_shift=1, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=2)


def unet_odd():
    """Sides that no power of two divides: upsamplers must be told the size of the skip connection. A middle block without attention."""
    record_unet("unet-odd", odd_unet(), unet_inputs(13, 10))


def unet_nomid():
    """No middle block, another number of layers on each level."""
    record_unet("unet-nomid", conditional_unet(
        mid_block_type=None, layers_per_block=(1, 2), block_out_channels=(16, 16), attention_head_dim=(2, 4),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")), unet_inputs(8, 12))


def unet_files():
    """unet-odd in shards with an index, and under the fp16 variant's name. The golden is unet-odd's."""
    model, inputs = odd_unet(), unet_inputs(13, 10)
    for case, options, variant in (("unet-sharded", dict(max_shard_size="100KB"), None), ("unet-variant", dict(variant="fp16"), "fp16")):
        folder = fresh(case)
        save_model(model, folder, **options)
        reloaded = UNet2DConditionModel.from_pretrained(folder, variant=variant, torch_dtype=torch.float32)
        assert torch.equal(reloaded(**inputs).sample, model(**inputs).sample)
    assert (HERE / "unet-sharded/diffusion_pytorch_model.safetensors.index.json").exists()


def pixel_unet(attention_head_dim, layers=2):
    torch.manual_seed(3)
    return randomised(UNet2DModel(
        sample_size=16, in_channels=3, out_channels=3, block_out_channels=(16, 16, 32), layers_per_block=layers, norm_num_groups=8, norm_eps=1e-6,
        downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, attention_head_dim=attention_head_dim,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D")), 3)


def pixel_inputs():
    return dict(sample=noise(4, 2, 3, 16, 16), timestep=torch.tensor([0, 980]))


def ddpm():
    """google/ddpm-cifar10-32 made small: attention_head_dim null means one head; in ddpm-heads a head has eight channels."""
    record_unet("ddpm", pixel_unet(None), pixel_inputs())
    record_unet("ddpm-heads", pixel_unet(8, layers=1), pixel_inputs())


LEGACY = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}


def legacy_names(state):
    """The names that attention layers had when google/ddpm-cifar10-32 and the VAE of Stable Diffusion 1.5 were published."""
    def old(name):
        for new, before in LEGACY.items():
            name = name.replace(new, before) if ".attentions." in name else name
        return name
    return {old(name): t.half() for name, t in state.items()}


def legacy():
    """ddpm's and vae-sd's weights under the deprecated names: in a .bin of torch.save, and in safetensors. Goldens: ddpm's, vae-sd's."""
    folder, model = fresh("ddpm-legacy"), pixel_unet(None)
    model.save_config(folder)
    torch.save(legacy_names(model.state_dict()), folder / "diffusion_pytorch_model.bin")
    reloaded = UNet2DModel.from_pretrained(folder, torch_dtype=torch.float32, use_safetensors=False)
    assert torch.equal(reloaded(**pixel_inputs()).sample, model(**pixel_inputs()).sample)

    folder, model = fresh("vae-legacy"), sd_vae()
    model.save_config(folder)
    save_file(legacy_names(model.state_dict()), folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    reloaded, z = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32), noise(6, 1, 4, 8, 8)
    assert torch.equal(reloaded.decode(z).sample, model.decode(z).sample)


# Autoencoders and text encoders -------------------------------------------------------------------------------------------

def sd_vae():
    torch.manual_seed(5)
    return randomised(AutoencoderKL(
        block_out_channels=(16, 16, 32), layers_per_block=1, norm_num_groups=8, sample_size=32, scaling_factor=0.18215,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3), 5)


def record_vae(case, model, inputs):
    def outputs(m):
        posterior = m.encode(inputs["image"]).latent_dist
        return {k: t.detach() for k, t in dict(mean=posterior.mean, logvar=posterior.logvar, decoded=m.decode(inputs["latents"]).sample).items()}
    record(case, model, inputs, outputs)


def vae_sd():
    """`mean` and `logvar` of the encoder, `decoded` from `latents` as they are (not divided by scaling_factor)."""
    record_vae("vae-sd", sd_vae(), dict(image=noise(7, 1, 3, 32, 32).tanh(), latents=noise(8, 1, 4, 8, 8)))


def vae_odd():
    """No quantisation convolutions, no attention, two levels of two layers, eight latent channels, a shift factor."""
    torch.manual_seed(9)
    model = randomised(AutoencoderKL(
        block_out_channels=(16, 24), layers_per_block=2, norm_num_groups=4, latent_channels=8, use_quant_conv=False, use_post_quant_conv=False,
        mid_block_add_attention=False, scaling_factor=0.9, shift_factor=0.1, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2), 9)
    record_vae("vae-odd", model, dict(image=noise(10, 1, 3, 18, 14).tanh(), latents=noise(11, 1, 8, 9, 7)))


def record_tiny_vae(case, seed, shape, **config):
    """`decoded` from `latents` as they are (not divided by scaling_factor). Latents of five deviations meet the decoder's clamp."""
    torch.manual_seed(seed)
    inputs = dict(latents=5 * noise(seed, *shape))
    record(case, randomised(AutoencoderTiny(**config), seed), inputs, lambda m: dict(decoded=m.decode(inputs["latents"]).sample.detach()))


def tiny_vae():
    """TAESD's own levels, narrow; the levels of models/tiny-sd's autoencoder; other channels, factor and scale."""
    narrow = dict(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4)
    record_tiny_vae("vae-tiny", 14, (1, 4, 6, 4), **narrow)
    record_tiny_vae("vae-tiny-4x", 15, (2, 4, 8, 8), encoder_block_out_channels=(8,) * 3, num_encoder_blocks=(1, 1, 1),
                    decoder_block_out_channels=(12,) * 3, num_decoder_blocks=(1, 2, 1))
    record_tiny_vae("vae-tiny-odd", 16, (1, 3, 5, 7), encoder_block_out_channels=(8,), num_encoder_blocks=(1,), latent_channels=3,
                    decoder_block_out_channels=(16,) * 2, num_decoder_blocks=(2, 3), upsampling_scaling_factor=3, scaling_factor=0.7)


def text_model(seed, **config):
    torch.manual_seed(seed)
    return randomised(CLIPTextModel(CLIPTextConfig(
        vocab_size=99, max_position_embeddings=12, bos_token_id=97, eos_token_id=98, pad_token_id=98, initializer_factor=2.0, **config)), seed)


def text_inputs():
    return dict(input_ids=torch.tensor([[97, 5, 17, 3, 60, 98, 98, 98, 98], [97, 44, 98, 98, 98, 98, 98, 98, 98]]))


def clip_sd1():
    """quick_gelu; stored as older transformers did, with the prefix `text_model.` and a buffer of position ids."""
    model, inputs = text_model(12, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, hidden_act="quick_gelu"), text_inputs()
    record("clip-sd1", model, inputs, lambda m: dict(last_hidden_state=m(**inputs).last_hidden_state.detach()))
    path = HERE / "clip-sd1/model.safetensors"
    state = {f"text_model.{name.removeprefix('text_model.')}": t for name, t in load_file(path).items()}
    save_file(state | {"text_model.embeddings.position_ids": torch.arange(12)[None]}, path, metadata={"format": "pt"})
    reloaded = CLIPTextModel.from_pretrained(path.parent, dtype=torch.float32)
    assert torch.equal(reloaded(**inputs).last_hidden_state, model(**inputs).last_hidden_state)


def clip_sd2():
    """gelu, three layers; stored as transformers 5 does, without a prefix."""
    model, inputs = text_model(13, hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=6, hidden_act="gelu"), text_inputs()
    record("clip-sd2", model, inputs, lambda m: dict(last_hidden_state=m(**inputs).last_hidden_state.detach()))
    assert not any(name.startswith("text_model.") for name in load_file(HERE / "clip-sd2/model.safetensors"))


# Scheduler and kernels ----------------------------------------------------------------------------------------------------

SCHEDULERS = {
    "sd15": SD15_SCHEDULER,
    "sd21-v": SD15_SCHEDULER | {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"},
    "ddpm-cifar": {"_class_name": "DDPMScheduler", "_diffusers_version": "0.1.1", "beta_end": 0.02, "beta_schedule": "linear", "beta_start": 0.0001,
                   "clip_sample": True, "num_train_timesteps": 1000, "trained_betas": None, "variance_type": "fixed_large"},
    "defaults": {},
    "sample-prediction": SD15_SCHEDULER | {"prediction_type": "sample"},
    "trailing": SD15_SCHEDULER | {"timestep_spacing": "trailing"},
    "linspace": SD15_SCHEDULER | {"timestep_spacing": "linspace"},
    "zero-snr": SD15_SCHEDULER | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
    "alpha-one": SD15_SCHEDULER | {"set_alpha_to_one": True, "steps_offset": 0},
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "clip_sample_range": 2.5},
    "trained-betas": {"num_train_timesteps": 100, "trained_betas": [0.0001 + 0.0007 * k for k in range(100)], "clip_sample": False},
}


def schedulers():
    """DDIMScheduler.from_config of each config: grids, some of abar, and steps with given noise."""
    cases = []
    for name, config in SCHEDULERS.items():
        scheduler, steps = DDIMScheduler.from_config(config), []
        abar = scheduler.alphas_cumprod
        case = dict(name=name, config=config, final_alpha_cumprod=scheduler.final_alpha_cumprod.item(), timesteps={}, steps=steps,
                    alphas_cumprod={str(t): abar[t].item() for t in (0, 1, 2, len(abar) // 2, len(abar) - 2, len(abar) - 1)})
        for count in (5, 7, 10, 50):
            scheduler.set_timesteps(count)
            grid = scheduler.timesteps.tolist()
            case["timesteps"][str(count)] = grid
            for k, t in enumerate((grid[0], grid[count // 2], grid[-1]) if count in (10, 50) else ()):
                sample, output, variance_noise = noise(100 + 3 * k, 3, 1, 16)
                for eta in (0.0, 1.0):
                    step = scheduler.step(output, t, sample, eta=eta, variance_noise=variance_noise if eta else None)
                    if name == "zero-snr" and not step.prev_sample.isfinite().all():
                        continue  # diffusers takes the root of -6e-8 here where abar is 0 and eta 1
                    assert step.prev_sample.isfinite().all(), (name, t)
                    steps.append(dict(
                        num_inference_steps=count, timestep=t, eta=eta, sample=sample[0].tolist(), model_output=output[0].tolist(),
                        variance_noise=variance_noise[0].tolist(), prev_sample=step.prev_sample[0].tolist(),
                        pred_original_sample=step.pred_original_sample[0].tolist()))
        cases.append(case)
    (HERE / "schedulers.json").write_text(json.dumps(cases, indent=1))


def kernels():
    """log P_F and log P_B by the formulas, in float64; abar is Stable Diffusion 1.5's (float32, as the scheduler has it)."""
    abar, rng, cases = DDIMScheduler.from_config(SD15_SCHEDULER).alphas_cumprod.numpy().astype(np.float64), np.random.default_rng(0), []
    variants = [(981, 961, 1.0, "epsilon", False), (501, 481, 1.0, "epsilon", False), (21, 1, 1.0, "epsilon", False), (1, 0, 1.0, "epsilon", False),
                (801, 601, 0.5, "epsilon", False), (501, 481, 1.0, "epsilon", True), (501, 301, 1.0, "v_prediction", False), (501, 481, 1.0, "sample", False)]
    for t, after, eta, prediction, clip in variants:
        now, prev = abar[t], abar[after]
        x, output, following = rng.standard_normal((3, 2, 8))
        following = math.sqrt(prev / now) * x + 0.3 * following
        if prediction == "epsilon":
            eps, x0 = output, (x - math.sqrt(1 - now) * output) / math.sqrt(now)
        elif prediction == "v_prediction":
            eps, x0 = math.sqrt(now) * output + math.sqrt(1 - now) * x, math.sqrt(now) * x - math.sqrt(1 - now) * output
        else:
            eps, x0 = (x - math.sqrt(now) * output) / math.sqrt(1 - now), output
        x0 = np.clip(x0, -1, 1) if clip else x0
        sigma = eta * math.sqrt((1 - prev) / (1 - now) * (1 - now / prev))
        mean, a = math.sqrt(prev) * x0 + math.sqrt(1 - prev - sigma**2) * eps, now / prev
        gauss = lambda v, m, s: -((v - m) ** 2) / (2 * s**2) - math.log(s) - 0.5 * math.log(2 * math.pi)
        pf, pb = gauss(following, mean, sigma), gauss(x, math.sqrt(a) * following, math.sqrt(1 - a))
        cases.append(dict(
            t=t, t_next=after, abar_t=now, abar_t_next=prev, eta=eta, prediction_type=prediction, clip_sample=clip, x_t=x.tolist(),
            model_output=output.tolist(), x_t_next=following.tolist(), x0=x0.tolist(), mu=mean.tolist(), sigma=sigma,
            log_pf_mean=pf.mean(1).tolist(), log_pf_sum=pf.sum(1).tolist(), log_pb_mean=pb.mean(1).tolist(), log_pb_sum=pb.sum(1).tolist()))
    (HERE / "kernels.json").write_text(json.dumps(cases, indent=1))


# LoRA, state flow, training -----------------------------------------------------------------------------------------------

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
# All that kohya's LoCon adapts beside these: feed-forward layers, the transformers' own projections, residual blocks, samplers.
LOCON = ["proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "time_emb_proj", "conv1", "conv2", "conv_shortcut", "conv"]


def unet_with_lora(seed=20, rank=4, targets=ATTENTION):
    """unet-sd1 with an adapter, gaussian A and zero B."""
    unet = conditional_unet()
    torch.manual_seed(seed)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=targets))
    return unet


def lora_parameters(unet):
    """Adapter tensors by the names that they have in a LoRA file."""
    return {f"unet.{name.replace('.default', '')}": p for name, p in unet.named_parameters() if p.requires_grad}


def save_lora(unet, folder, name):
    metadata = unet.peft_config["default"].to_dict()
    metadata["target_modules"] = sorted(metadata["target_modules"])  # a set: its order would differ from run to run
    StableDiffusionPipeline.save_lora_weights(
        folder, unet_lora_layers=get_peft_model_state_dict(unet), weight_name=name, unet_lora_adapter_metadata=metadata)


def kohya_names(state, alpha):
    """The same LoRA under the names that ComfyUI and A1111 read, and diffusers too: lora_unet_<path with _>.lora_down|lora_up|alpha."""
    out = {}
    for name, tensor in state.items():
        module, part = name.removeprefix("unet.").rsplit(".lora_", 1)
        module = "lora_unet_" + module.replace(".", "_")
        out[f"{module}.lora_{ {'A': 'down', 'B': 'up'}[part[0]] }.weight"] = tensor
        out[f"{module}.alpha"] = torch.tensor(float(alpha))
    return out


def bare_pipeline(unet):
    return StableDiffusionPipeline(vae=None, text_encoder=None, tokenizer=None, unet=unet, scheduler=DDIMScheduler.from_config(SD15_SCHEDULER),
                                   safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def lora():
    """Files as diffusers writes them and under kohya's names; output; gradients of mean(output * loss_weight)."""
    lora_files(fresh("lora"), unet_with_lora(), 4)
    lora_files(fresh("lora-locon"), unet_with_lora(rank=1, targets=LOCON), 1)


def lora_files(folder, unet, rank):
    inputs = unet_inputs()
    g = torch.Generator().manual_seed(21)
    for name, p in lora_parameters(unet).items():
        if ".lora_B." in name:
            p.data = 0.1 * torch.randn(p.shape, generator=g)
    output, loss_weight = unet(**inputs).sample, noise(22, 2, 4, 16, 16)
    (output * loss_weight).mean().backward()
    save_lora(unet, folder, "lora.safetensors")
    save_file(kohya_names(load_file(folder / "lora.safetensors"), rank), folder / "lora_kohya.safetensors")
    for name in ("lora.safetensors", "lora_kohya.safetensors"):
        pipeline = bare_pipeline(conditional_unet())
        base = pipeline.unet(**inputs).sample
        pipeline.load_lora_weights(folder, weight_name=name)
        assert torch.allclose(pipeline.unet(**inputs).sample, output, atol=1e-5) and not torch.allclose(base, output, atol=1e-2), name
    save(folder / "golden.safetensors", **inputs, output=output, base_output=base, loss_weight=loss_weight,
         **{f"grad.{name}": p.grad for name, p in lora_parameters(unet).items()})


def flow():
    """The state flow with formula weights: output, and the gradients' norms of sum(output * loss_weight)."""
    description = {"formula": ref.formula_weights.__doc__, "cases": {}}
    folder, tensors = fresh("flow"), {}
    for case, channels, size, text_width, batch in (("text", 4, 16, 24, 2), ("full", 4, 64, 24, 1), ("plain", 3, 32, None, 2), ("one", 4, 4, 24, 2)):
        net = ref.formula_weights(ref.Flow(channels, size, text_width))
        inputs = dict(x=noise(30, batch, channels, size, size), t=torch.tensor([981, 0])[:batch])
        if text_width:
            inputs["text"] = noise(31, batch, 7, text_width)
        output, loss_weight = net(**inputs), noise(32, batch)
        (output * loss_weight).sum().backward()
        tensors |= {f"{case}.{k}": v for k, v in {**inputs, "output": output, "loss_weight": loss_weight}.items()}
        description["cases"][case] = dict(
            channels=channels, sample_size=size, text_width=text_width,
            parameters={name: dict(shape=list(p.shape), first=p.flatten()[:3].tolist(), norm=p.norm().item(), grad_norm=p.grad.norm().item())
                        for name, p in sorted(net.named_parameters())})
    save(folder / "golden.safetensors", **tensors)
    (folder / "flow.json").write_text(json.dumps(description, indent=1))


CONVENTIONS = dict(
    model="unet-sd1, float32; theta = the LoRA of lora_initial.safetensors (rank 4, alpha 4, zero B); phi = the flow for 4x16x16 latents and text "
          "width 24 with formula weights (flow/flow.json)",
    trajectories="N = 4, S = 5, eta 1, guidance 5 with the unconditional rows first; timesteps 801, 601, 401, 201, 1; the state after the last "
                 "has t' = 0. states[:, k] is at timesteps[k]; states[:, 5] is x_0",
    abar="alphas_cumprod of schedulers.json case sd15",
    log_probabilities="mean over the dimensions",
    log_flow="log F(states[:, k]) = beta * state_rewards[:, k] + f_phi(states[:, k], timesteps[k], text) for k < 5; log F(states[:, 5]) = beta * rewards",
    step="one optimiser step uses all 4 trajectories and all 5 transitions; loss = mean over the 20 transitions",
    dag_db="(log F(x_t) + log P_F - log P_B - log F(x_t'))^2 + unet_regularization * mean((eps_w - rollout_output)^2)",
    dag_kl="(the same delta with log P_F detached)^2 + kl_coefficient * surrogate + unet_regularization * mean((eps_w - rollout_output)^2)",
    surrogate="max(-A * rho, -A * clip(rho, 1 - clip_range, 1 + clip_range)), rho = exp(log P_F - log_pf)",
    dag_kl_advantage="r = log F(x_t') + log P_B - log P_F - log F(x_t), detached; over the N values at the same timestep: A = clip((r - b) / (s + 1e-8), -5, 5)",
    std_form="b_i = mean of r_j over j != i; d_j = (r_j - b_j)^2, each with its own b_j; s_i = sqrt(mean of d_j over j != i)",
    ddpo="surrogate with A = clip((R - mean R) / (std R + 1e-8), -5, 5), unbiased std (divided by N - 1), the same A at each of the 5 transitions; "
         "no unet_regularization, no flow",
    optimiser="AdamW on LoRA and flow with lr 3e-4, betas 0.9 and 0.999, weight decay 1e-4 on every parameter, eps 1e-8; gradient norm clipped to 1 on "
              "LoRA and flow separately, with torch's factor min(1, 1 / (norm + 1e-6))",
    recorded="losses and gradient norms before clipping at each of the 10 steps, the loss before its step; final LoRA norms after the 10th; "
             "float64_loss is the same run in float64, to show what rounding does",
    constants=dict(beta=10.0, unet_regularization=1.0, kl_coefficient=1.0, clip_range=1e-2, learning_rate=3e-4, steps=10))
ALGORITHMS = ("dag-db", "dag-kl", "ddpo")


def rollout(unet, scheduler):
    """Four trajectories of the base policy (B is zero) with everything that training needs."""
    g, n = torch.Generator().manual_seed(40), 4
    text, empty, x = torch.randn(n, 7, 24, generator=g), torch.randn(1, 7, 24, generator=g), torch.randn(n, 4, 16, 16, generator=g)
    scheduler.set_timesteps(5)
    grid = scheduler.timesteps
    following = (grid - 200).clamp(min=0)
    abar, states, logs, outputs = scheduler.alphas_cumprod, [x], [], []
    for t, after in zip(grid, following):
        now, after = abar[t].repeat(n), abar[after].repeat(n)
        eps = ref.guided(unet, x, t.repeat(n), text, empty)
        mean, std = ref.forward_kernel(eps, x, now, after)
        new = mean + std * torch.randn(mean.shape, generator=g)
        logs.append(ref.log_pf(eps, x, new, now, after))
        x = new
        states.append(x)
        outputs.append(eps)
    rewards = torch.rand(n, generator=g)
    return dict(timesteps=grid, next_timesteps=following, states=torch.stack(states, 1), log_pf=torch.stack(logs, 1), rollout_output=torch.stack(outputs, 1),
                text=text, unconditional_text=empty, state_rewards=rewards[:, None] + 0.2 * torch.randn(n, 5, generator=g), rewards=rewards)


def transition_loss(algorithm, k, unet, net, data, abar):
    """Losses [N] of the k-th transition of all trajectories, and delta (None for ddpo)."""
    c, n = CONVENTIONS["constants"], len(data["rewards"])
    x, new, t, after = data["states"][:, k], data["states"][:, k + 1], data["timesteps"][k].repeat(n), data["next_timesteps"][k].repeat(n)
    eps = ref.guided(unet, x, t, data["text"], data["unconditional_text"])
    pf, pb = ref.log_pf(eps, x, new, abar[t], abar[after]), ref.log_pb(x, new, abar[t], abar[after])
    surrogate = lambda advantage: ref.clipped_surrogate(advantage, (pf - data["log_pf"][:, k]).exp(), c["clip_range"])
    if algorithm == "ddpo":
        reward = data["rewards"]
        return surrogate(((reward - reward.mean()) / (reward.std() + 1e-8)).clamp(-5, 5)), None
    flow_now = c["beta"] * data["state_rewards"][:, k] + net(x, t, data["text"])
    flow_next = c["beta"] * data["rewards"] if k == 4 else c["beta"] * data["state_rewards"][:, k + 1] + net(new, after, data["text"])
    delta = flow_now + (pf.detach() if algorithm == "dag-kl" else pf) - pb - flow_next
    loss = delta**2 + c["unet_regularization"] * ((eps - data["rollout_output"][:, k]) ** 2).mean((1, 2, 3))
    if algorithm == "dag-kl":
        loss = loss + c["kl_coefficient"] * surrogate(ref.leave_one_out(-delta.detach()))
    return loss, delta


def curve(algorithm, data, abar, dtype):
    """Ten optimiser steps from the initial LoRA and flow."""
    convert = lambda v: v.to(dtype) if v.is_floating_point() else v
    data, abar = {name: convert(v) for name, v in data.items()}, abar.to(dtype)
    unet, net = unet_with_lora().to(dtype), ref.formula_weights(ref.Flow(4, 16, 24)).to(dtype)
    adapter, c = lora_parameters(unet), CONVENTIONS["constants"]
    optimiser = torch.optim.AdamW([*adapter.values(), *net.parameters()], lr=c["learning_rate"], betas=(0.9, 0.999), weight_decay=1e-4, eps=1e-8)
    out = dict(loss=[], lora_grad_norm=[], flow_grad_norm=[])
    for _ in range(c["steps"]):
        total, deltas = 0.0, []
        for k in range(5):
            loss, delta = transition_loss(algorithm, k, unet, net, data, abar)
            (loss.mean() / 5).backward()
            total += loss.mean().item() / 5
            deltas.append(delta.tolist() if delta is not None else None)
        out.setdefault("first_delta", None if algorithm == "ddpo" else np.array(deltas).T.tolist())
        out["loss"].append(total)
        out["lora_grad_norm"].append(torch.nn.utils.clip_grad_norm_(adapter.values(), 1.0).item())
        flow_norm = 0.0 if algorithm == "ddpo" else torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0).item()
        out["flow_grad_norm"].append(flow_norm)
        optimiser.step()
        optimiser.zero_grad()
    out["final_lora_norms"] = {name: p.norm().item() for name, p in sorted(adapter.items())}
    out["final_flow_norms"] = {name: p.norm().item() for name, p in sorted(net.named_parameters())}
    return out


def train():
    folder, unet, scheduler = fresh("train"), unet_with_lora(), DDIMScheduler.from_config(SD15_SCHEDULER)
    save_lora(unet, folder, "lora_initial.safetensors")
    with torch.no_grad():
        data = rollout(unet, scheduler)
    save(folder / "golden.safetensors", **data)
    result = dict(conventions=CONVENTIONS, algorithms={})
    for algorithm in ALGORITHMS:
        result["algorithms"][algorithm] = curve(algorithm, data, scheduler.alphas_cumprod, torch.float32)
        result["algorithms"][algorithm]["float64_loss"] = curve(algorithm, data, scheduler.alphas_cumprod, torch.float64)["loss"]
    (folder / "train.json").write_text(json.dumps(result, indent=1))


CASES = (unet_sd1, unet_sd2, unet_odd, unet_nomid, unet_files, ddpm, legacy, vae_sd, vae_odd, tiny_vae, clip_sd1, clip_sd2, schedulers, kernels, lora, flow, train)

if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in CASES:
        if len(sys.argv) == 1 or case.__name__ in sys.argv[1:]:
            print(case.__name__, flush=True)
            case()
