import Foundation
import NN
import TestSupport
import Tensors
import Testing

@testable import Models

/// What lies in a model's folder, and what is missing.
@Suite struct FolderTests {
    /// Returns the message of the error that `body` throws.
    private func message(_ body: () throws -> Void) -> String {
        do { try body() } catch { return "\(error)" }
        return ""
    }

    /// Makes files in a new folder, those in folders after the folders; those without content are folders.
    private func make(_ files: [String: String?], in folder: URL) throws -> URL {
        let place = folder.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
        for (name, content) in files.sorted(by: { $0.key < $1.key }) {
            let url = place.appendingPathComponent(name)
            if let content {
                try Data(content.utf8).write(to: url)
            } else {
                try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
            }
        }
        return place
    }

    @Test(arguments: [
        (#"{"_class_name": "LDMPipeline", "unet": ["diffusers", "UNet2DModel"]}"#, "LDMPipeline"),
        (#"{"unet": ["diffusers", "UNet2DModel"], "vqvae": ["diffusers", "VQModel"]}"#, "part 'vqvae' of class \"VQModel\""),
        (#"{"unet": ["diffusers", "UNet2DModel"], "vae": ["diffusers", "AutoencoderKL"]}"#, "no folder 'vae'"),
        (#"{"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "LCMScheduler"]}"#, "LCMScheduler"),
        (#"{"unet": ["diffusers", "UNet2DModel"], "text_encoder": ["transformers", "T5EncoderModel"]}"#, "T5EncoderModel"),
        (#"{"unet": [null, null]}"#, "has no unet"), (#"{"unet": ["diffusers", "UNet2DModel"]}"#, "no scheduler"),
        ("[]", "model_index.json: not valid JSON, or not an object"),
    ])
    func modelIndex(text: String, culprit: String) throws {
        try withFolder { folder in
            let place = try make(["model_index.json": text, "unet": nil, "text_encoder": nil, "text_encoder_2": nil], in: folder)
            let found = message { _ = try PipelineFolder(ModelFolder(place)) }
            #expect(found.contains(culprit), "\(found)")
        }
    }

    /// Parts that the index leaves out are not taken, even if they lie there; settings and unused parts are skipped.
    @Test func partsFollowTheIndex() throws {
        let index = #"""
            {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"],
             "vae": [null, null], "safety_checker": ["x", "Checker"], "requires_safety_checker": true}
            """#
        try withFolder { folder in
            let parts = try PipelineFolder(
                ModelFolder(make(["model_index.json": index, "unet": nil, "scheduler": nil, "vae": nil], in: folder)))
            #expect(parts.vae == nil && parts.textEncoder == nil)
            let without = try PipelineFolder(ModelFolder(make(["unet": nil, "scheduler": nil, "vae": nil], in: folder)))
            #expect(without.vae != nil)
        }
    }

    @Test func wrongPlaces() throws {
        try withFolder { folder in
            let file = try make(["model.safetensors": ""], in: folder).appendingPathComponent("model.safetensors")
            #expect(message { _ = try ModelFolder(file) }.contains("a file; a model is a folder"))
            let cache = try make(["snapshots": nil, "snapshots/abc": nil], in: folder)
            #expect(message { _ = try ModelFolder(cache) }.contains("\(cache.path)/snapshots/abc"))
            #expect(message { _ = try ModelFolder(URL(fileURLWithPath: "someone/some-model")) }.contains("hf download"))
            let pipeline = try make(["model_index.json": "{}", "unet": nil, "unet/config.json": "{}"], in: folder)
            let unet = pipeline.appendingPathComponent("unet")
            #expect(message { _ = try PipelineFolder(ModelFolder(unet)) }.contains("name the folder above it, \(pipeline.path)"))
            let odd = try make(["diffusion_pytorch_model.safetensor": "", "model.safetensors": nil], in: folder)
            let found = message { _ = try ModelFolder(odd).files() }
            #expect(
                found.contains("no weights") && found.contains("it holds diffusion_pytorch_model.safetensor, model.safetensors"), "\(found)"
            )
        }
    }

    /// float32 comes before half precision, in whatever container, and safetensors before .bin.
    @Test(arguments: [
        (["model.fp16.safetensors", "pytorch_model.bin"], "pytorch_model.bin"),
        (["model.fp16.safetensors", "pytorch_model.fp32.bin"], "pytorch_model.fp32.bin"),
        (["pytorch_model.bin", "model.safetensors"], "model.safetensors"),
        (["model.non_ema.safetensors", "model.fp16.safetensors"], "model.fp16.safetensors"),
    ])
    func choiceOfWeights(names: [String], chosen: String) throws {
        try withFolder { folder in
            let place = try make(Dictionary(uniqueKeysWithValues: names.map { ($0, "") }), in: folder)
            #expect(try ModelFolder(place).files().last?.lastPathComponent == chosen)
        }
    }

    /// The parts of a .bin are read; names in an index are names, not paths.
    @Test func indices() throws {
        try withFolder { folder in
            let index = #"{"metadata": {}, "weight_map": {"a": "part-1.bin", "b": "part-2.bin"}}"#
            let place = try make(["pytorch_model.bin.index.json": index, "part-1.bin": "", "part-2.bin": ""], in: folder)
            #expect(try ModelFolder(place).files().dropFirst().map(\.lastPathComponent) == ["part-1.bin", "part-2.bin"])
            for name in ["../model.safetensors", "/etc/passwd", ".."] {
                let bad = try make(["model.safetensors.index.json": #"{"weight_map": {"a": "\#(name)"}}"#], in: folder)
                #expect(message { _ = try ModelFolder(bad).files() }.contains("'\(name)' in weight_map is not the name of a file"))
            }
        }
    }

    /// Of several files of weights, float32 before half precision, whatever the container, and a line says so.
    @Test func severalFiles() throws {
        try withFolder { folder in
            let names = ["model.fp16.safetensors", "pytorch_model.bin", "pytorch_model.fp16.bin"]
            let place = try make(Dictionary(uniqueKeysWithValues: names.map { ($0, "") }), in: folder)
            let several = try ModelFolder(place)
            #expect(try several.files().last?.lastPathComponent == "pytorch_model.bin")
            #expect(
                several.choice
                    == "\(place.path): weights are read from pytorch_model.bin, not from model.fp16.safetensors, pytorch_model.fp16.bin")
            #expect(try ModelFolder(make(["model.safetensors": ""], in: folder)).choice == nil)
        }
    }

    @Test(arguments: [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "a git-LFS pointer"),
        ("\n<!DOCTYPE html>\n<html></html>", "an HTML page"), ("", "empty"),
    ])
    func filesThatAreNoJSON(content: String, kind: String) throws {
        try withFolder { folder in
            let place = try make(["config.json": content], in: folder)
            let found = message { _ = try CLIPTextModel(folder: ModelFolder(place)) }
            #expect(found.hasPrefix("\(place.path)/config.json: \(kind)"), "\(found)")
            let tokenizer = try make(["vocab.json": "{}", "merges.txt": content], in: folder)
            #expect(message { _ = try CLIPTokenizer(folder: tokenizer) }.hasPrefix("\(tokenizer.path)/merges.txt: \(kind)"))
        }
    }

    /// Weights that are not finite, in the file or in the type that is computed in, are named.
    @Test(arguments: [(Double.nan, DType.float32), (.infinity, .float32), (1e6, .float16)])
    func weightsThatAreNotFinite(value: Double, dtype: DType) throws {
        try withFolder { folder in
            let place = folder.appendingPathComponent("unet")
            try FileManager.default.copyItem(at: goldens.appendingPathComponent("unet-sd1"), to: place)
            let file = place.appendingPathComponent("diffusion_pytorch_model.safetensors")
            var weights = try Safetensors(contentsOf: file).tensors.mapValues { $0.clone() }
            weights["conv_out.bias"] = Tensor.full([4], value)
            try Safetensors.encode(weights).write(to: file)
            let found = message { _ = try UNet(folder: ModelFolder(place), dtype: dtype) }
            #expect(found.hasPrefix(file.path) && found.contains("conv_out.bias holds numbers that are not finite"), "\(found)")
        }
    }

    /// A tensor of a type that is not supported counts only if the model needs it.
    @Test func typesThatAreNotSupported() throws {
        try withFolder { folder in
            let place = folder.appendingPathComponent("text")
            try FileManager.default.copyItem(at: goldens.appendingPathComponent("clip-sd1"), to: place)
            let file = place.appendingPathComponent("model.safetensors")
            let original = try Data(contentsOf: file)
            let end = 8 + original.withUnsafeBytes { Int($0.loadUnaligned(as: UInt64.self)) }
            for name in ["final_layer_norm.bias", "position_ids"] {
                var header = try #require(JSONSerialization.jsonObject(with: original[8..<end]) as? [String: Any])
                let size = original.count - end
                if name == "position_ids" { header[name] = ["dtype": "I16", "shape": [1], "data_offsets": [size, size + 2]] }
                for (key, value) in header where key.hasSuffix(name) && name != "position_ids" {
                    var entry = try #require(value as? [String: Any])
                    entry["dtype"] = "I16"
                    header[key] = entry
                }
                let json = try JSONSerialization.data(withJSONObject: header)
                let length = withUnsafeBytes(of: UInt64(json.count).littleEndian) { Data($0) }
                try (length + json + original[end...] + Data(count: name == "position_ids" ? 2 : 0)).write(to: file)
                let found = message { _ = try CLIPTextModel(folder: ModelFolder(place)) }
                #expect(name == "position_ids" ? found == "" : found.contains("final_layer_norm.bias has the type I16"), "\(found)")
            }
        }
    }
}
