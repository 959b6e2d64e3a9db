"""Names of LoRAs for Stable Diffusion's U-Net that ComfyUI reads, and the weights it adds them to, for the blocks of unet-sd1.

    python make_comfyui_names.py COMFYUI      # its repository: comfy/utils.py and comfy/lora.py

Writes comfyui_names.json beside itself. Of ComfyUI only the function unet_to_diffusers and its tables are run; names of files are made of
its keys as model_lora_keys_unet of comfy/lora.py does.
"""
import ast
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
tree = ast.parse(pathlib.Path(sys.argv[1], "comfy/utils.py").read_text())
tree.body = [
    node for node in tree.body
    if isinstance(node, ast.Assign) and node.targets[0].id in ("UNET_MAP_ATTENTIONS", "TRANSFORMER_BLOCKS", "UNET_MAP_RESNET", "UNET_MAP_BASIC")
    or isinstance(node, ast.FunctionDef) and node.name == "unet_to_diffusers"]
module = {}
exec(compile(tree, "comfy/utils.py", "exec"), module)
# unet-sd1: two blocks with transformers and one without on the way down, the reverse on the way up (read from the end).
weights = module["unet_to_diffusers"](dict(
    num_res_blocks=[2, 2, 2], channel_mult=[1, 2, 2], transformer_depth=[1, 1, 1, 1, 0, 0], transformer_depth_middle=1,
    transformer_depth_output=[1, 1, 1, 1, 1, 1, 0, 0, 0]))
names = {"lora_unet_" + key.removesuffix(".weight").replace(".", "_"): weight for key, weight in weights.items() if key.endswith(".weight")}
(HERE / "comfyui_names.json").write_text(json.dumps(dict(sorted(names.items())), indent=0) + "\n")
