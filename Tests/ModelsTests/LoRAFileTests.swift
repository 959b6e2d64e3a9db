import Foundation
import TestSupport
import Tensors
import Testing

@testable import Models
@testable import NN

/// Files of adapters as different programs write them, against the golden with diffusers' names.
@Suite struct LoRAFileTests {
    private static let layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"
    private let layers: [String: any AdaptableLayer]
    private let stored: [String: Tensor]
    private let rank: Int

    init() throws {
        layers = try UNet(folder: ModelFolder(goldens.appendingPathComponent("unet-sd1"))).layers
        stored = try tensors("lora/lora.safetensors")
        rank = try #require(stored["unet.\(Self.layer).lora_A.weight"]).size(0)
    }

    /// Reads the adapters of a file with these tensors.
    private func read(_ tensors: [String: Tensor], metadata: [String: String] = [:]) throws -> [String: LoRA] {
        try withFolder { folder in
            // A folder stands for the file in it.
            try Safetensors.encode(tensors, metadata: metadata).write(to: folder.appendingPathComponent("pytorch_lora_weights.safetensors"))
            return try LoRAAdapters(contentsOf: folder, attachingTo: layers, device: .cpu).adapters
        }
    }

    private func renamed(_ change: (String) -> String) -> [String: Tensor] {
        Dictionary(uniqueKeysWithValues: stored.map { (change($0.key), $0.value) })
    }

    private func message(_ tensors: [String: Tensor], _ metadata: [String: String] = [:]) -> String {
        do { _ = try read(tensors, metadata: metadata) } catch { return "\(error)" }
        return ""
    }

    @Test func namesOfDiffusers() throws {
        func old(_ name: String) -> String {
            name.replacing(".lora_A.", with: ".lora.down.").replacing(".lora_B.", with: ".lora.up.")
        }
        func processors(_ name: String) -> String {
            old(name).replacing(".to_out.0.lora.", with: ".processor.to_out_lora.")
                .replacing(/\.to_([qkv])\.lora\./) { ".processor.to_\($0.output.1)_lora." }
        }
        let expected = try read(stored)
        #expect(expected.count == stored.count / 2)
        for change in [old, processors, { String($0.dropFirst("unet.".count)) }] as [(String) -> String] {
            let found = try read(renamed(change))
            #expect(Set(found.keys) == Set(expected.keys))
            for (layer, lora) in expected {
                let other = try #require(found[layer])
                #expect(other.scale == 1)
                #expect(try difference(other.a, lora.a) == 0 && difference(other.b, lora.b) == 0)
            }
        }
    }

    /// alpha / rank from peft's settings in the metadata, with its patterns.
    @Test(arguments: [
        (#""unet.lora_alpha": 8"#, 8.0, 8.0), (#""unet.lora_alpha": 8, "unet.alpha_pattern": {"attn2.to_q": 2}"#, 2, 8),
        (#""unet.lora_alpha": 8, "unet.alpha_pattern": {"to_.*": 2, "nothing": 3}"#, 2, 2), (#""unet.lora_dropout": 0"#, 8, 8),
    ])
    func strengthFromMetadata(settings: String, alpha: Double, others: Double) throws {
        let text = "{\(settings), \"unet.r\": \(rank), \"text_encoder.lora_alpha\": 99}"
        let adapters = try read(stored, metadata: ["lora_adapter_metadata": text])
        #expect(adapters[Self.layer]?.scale == alpha / Double(rank))
        #expect(adapters[Self.layer.replacing("attn2", with: "attn1")]?.scale == others / Double(rank))
        let stabilised = "{\"unet.lora_alpha\": 8, \"unet.r\": \(rank), \"unet.use_rslora\": true}"
        let scale = try #require(try read(stored, metadata: ["lora_adapter_metadata": stabilised])[Self.layer]?.scale)
        #expect(abs(scale - 8 / Double(rank).squareRoot()) < 1e-12)
    }

    @Test func metadataThatDoNotFit() throws {
        func check(_ settings: String, _ culprit: String, _ tensors: [String: Tensor]? = nil) {
            let found = message(tensors ?? stored, ["lora_adapter_metadata": settings])
            #expect(found.contains(culprit), "\(settings): \(found)")
        }
        check("{\"unet.r\": \(rank + 1)}", "has rank \(rank), but lora_adapter_metadata say")
        check(#"{"unet.use_dora": true}"#, "use_dora")
        check("{", "not valid JSON")
        var withAlpha = stored
        for name in stored.keys where name.hasSuffix(".lora_A.weight") {
            withAlpha[name.replacing(".lora_A.weight", with: ".alpha")] = Tensor.full([], 3)
        }
        #expect(try read(withAlpha)[Self.layer]?.scale == 3 / Double(rank))
        check("{\"unet.r\": \(rank), \"unet.lora_alpha\": 8}", "has alpha 3.0, but the metadata say 8.0", withAlpha)
        withAlpha["unet.\(Self.layer).alpha"] = nil
        #expect(message(withAlpha).contains("layers have an alpha"))
    }

    /// Some layers only, feed-forward layers, ranks and alphas that differ; and written again under either names, as strong as they
    /// were, and all with one alpha or with that of their rank.
    @Test func someLayersOfTheirOwnRanks() throws {
        let key = Self.layer.replacing("attn2.to_q", with: "ff.net.0.proj")
        let shapes = try #require(layers[key]).adapterShapes(rank: 1)
        func name(_ layer: String, _ end: String) -> String { "lora_unet_\(layer.replacing(".", with: "_")).\(end)" }
        let (a, b) = (stored["unet.\(Self.layer).lora_A.weight"]!, stored["unet.\(Self.layer).lora_B.weight"]!)
        let tensors = [
            name(Self.layer, "lora_down.weight"): a, name(Self.layer, "lora_up.weight"): b, name(Self.layer, "alpha"): Tensor.full([1], 3),
            name(key, "lora_down.weight"): Tensor.full(shapes.a, 0.5),
            name(key, "lora_up.weight"): Tensor.full(shapes.b, 0.5), name(key, "alpha"): Tensor([2] as [Int64], shape: []),
        ]
        let adapters = try read(tensors)
        #expect(adapters.count == 2 && adapters[key]?.scale == 2 && adapters[Self.layer]?.scale == 3 / Double(rank))
        try withFolder { folder in
            let file = folder.appendingPathComponent("lora.safetensors")
            try Safetensors.encode(tensors).write(to: file)
            let original = try LoRAAdapters(contentsOf: file, attachingTo: layers, device: .cpu)
            for names in LoRANames.allCases {
                let copy = folder.appendingPathComponent("\(names).safetensors")
                try original.encoded(names).write(to: copy)
                let again = try LoRAAdapters(contentsOf: copy, attachingTo: layers, device: .cpu).adapters
                for (layer, lora) in again {
                    let (old, new): ([Float], [Float]) = try (#require(original.adapters[layer]).update.array(), lora.update.array())
                    #expect(zip(old, new).allSatisfy { abs($0 - $1) <= 1e-6 * (1 + abs($0)) }, "\(names), \(layer)")
                    #expect(lora.scale == (names == .kohya ? 3 / Double(lora.a.size(0)) : 1))
                }
                #expect(again.count == 2)
            }
        }
        // Without any alpha, each layer has the strength 1.
        #expect(try read(tensors.filter { !$0.key.hasSuffix("alpha") }).values.allSatisfy { $0.scale == 1 })
    }

    /// Several files, each with a weight, are their weighted sum.
    @Test func weightedSum() throws {
        try withFolder { folder in
            func write(_ tensors: [String: Tensor], to name: String) throws {
                let place = folder.appendingPathComponent(name)
                try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
                try Safetensors.encode(tensors).write(to: place.appendingPathComponent("pytorch_lora_weights.safetensors"))
            }
            try write(stored, to: "a")
            try write(stored.filter { $0.key.contains(Self.layer) }.mapValues { $0 * 2 }, to: "b=1")
            let layer = try #require(layers[Self.layer] as? Linear)
            let x = Tensor.randn([3, stored["unet.\(Self.layer).lora_A.weight"]!.size(1)], generator: Generator(seed: 1))
            func output(_ sources: String...) throws -> Tensor {
                _ = try LoRAAdapters(
                    contentsOf: sources.map { LoRASource(folder.appendingPathComponent($0).path) }, attachingTo: layers, device: .cpu)
                return layer(x)
            }
            layer.lora = nil
            let base = layer(x)
            let own = try output("a") - base
            #expect(try difference(output("a=0.5") - base, own * 0.5) < 1e-5)
            // The second folder's whole name is "b=1"; both of its tensors are doubled.
            #expect(try difference(output("b=1") - base, own * 4) < 1e-5)
            #expect(try difference(output("a=-1", "b=1=0.5") - base, own) < 1e-5)
            let error = #expect(throws: TensorFileError.self) { try output("a", "c=2") }
            #expect(error?.description.contains("/c: no such file") == true)
        }
    }

    /// The numbers of diffusers' EMAModel with a decay of 0.35.
    @Test func weightAverage() throws {
        let weights = Tensor([1, -2] as [Float])
        let average = WeightAverage([("w", weights)], decay: 0.35)
        let expected: [[Float]] = [
            [1, -1], [3.4545455, -0.59090912], [7.6136365, -0.39772728], [13.41958, -0.29545456], [20.946854, -0.23340911],
            [30.7314, -0.19002652],
        ]
        for (step, numbers) in expected.enumerated() {
            weights.copy_(Tensor([Float((step + 1) * (step + 1)), -1 / Float(step + 1)]))
            average.add(step: step)
            #expect(try zip(average.state["ema.w"]!.array(Float.self), numbers).allSatisfy { abs($0 - $1) < 1e-5 })
        }
        let restored = WeightAverage([("w", weights)], decay: 0.35)
        try restored.restore(average.state)
        #expect(try restored.inPlace { try weights.array(Float.self) } == average.state["ema.w"]!.array(Float.self))
        #expect(try weights.array(Float.self)[0] == 36)
        #expect(throws: TensorFileError.self) { try restored.restore([:]) }
    }

    /// Targets are layers by name or end of name; one that fits none is named, with those that there are.
    @Test func targets() throws {
        func keys(_ targets: String...) throws -> Set<String> {
            try Set(LoRAAdapters(rank: 2, alpha: 4, targets: targets, seed: 0, attachingTo: layers, device: .cpu).adapters.keys)
        }
        #expect(try keys("conv1").count == layers.keys.count { $0.hasSuffix(".conv1") })
        #expect(try keys("conv_in", "mid_block.resnets.0.conv2") == ["conv_in", "mid_block.resnets.0.conv2"])
        #expect(try keys("net.2", "to_out.0").isSuperset(of: [Self.layer.replacing("attn2.to_q", with: "ff.net.2")]))
        let error = #expect(throws: LoRATargetError.self) { try keys("to_q", "onv1") }
        #expect(error?.description.hasPrefix("no layer of this model is named 'onv1'; it has conv, conv1, conv2, ") == true, "\(error!)")
        let adapter = try #require(layers["conv_in"]?.lora)
        #expect(adapter.scale == 2 && adapter.a.shape == [2, 4, 3, 3] && adapter.b.shape.suffix(3) == [2, 1, 1])
    }

    /// ComfyUI has a weight for every layer that can be adapted, convolutions too, and no two for one
    /// (Tests/Goldens/make_comfyui_names.py).
    @Test func comfyUIReadsAllNames() throws {
        let known = try #require(try json("comfyui_names.json") as? [String: String])
        let adapters = try LoRAAdapters(
            rank: 1, alpha: 1, targets: Array(Set(layers.keys)), seed: 0, attachingTo: layers, device: .cpu)
        let folder = try TemporaryFolder()
        let file = folder.url.appendingPathComponent("lora.safetensors")
        try adapters.encoded().write(to: file)
        let names = Set(try Safetensors(contentsOf: file).tensors.keys.map { String($0.prefix { $0 != "." }) })
        #expect(names.count == layers.count && names.contains("lora_unet_up_blocks_0_upsamplers_0_conv"))
        #expect(names.subtracting(known.keys) == [])
        #expect(Set(names.compactMap { known[$0] }).count == names.count)
    }

    /// Every other format is named.
    @Test(arguments: [
        ("base_model.model.\(layer).lora_A.weight", "peft's own names"), ("lora_unet_x.hada_w1_a", "LoHa"),
        ("lora_unet_x.lokr_w1", "LoKr"), ("lora_unet_x.dora_scale", "DoRA"), ("lora_te_text_model.lora_down.weight", "text encoder"),
        ("text_encoder.x.lora_A.weight", "text encoder"), ("lora_unet_input_blocks_1.lora_down.weight", "original Stable Diffusion"),
        ("unet.mid_block.resnets.0.norm1.lora_A.weight", "belongs to no layer"), ("something", "belongs to no layer"),
    ])
    func otherFormats(name: String, what: String) {
        let found = message(stored.merging([name: Tensor.zeros([1])], uniquingKeysWith: { $1 }))
        #expect(found.contains(what) && found.contains(name), "\(found)")
    }

    @Test func unusableFiles() throws {
        #expect(message([:]).contains("holds no tensors"))
        let name = "unet.\(Self.layer).lora_B.weight"
        #expect(message(stored.filter { $0.key != name }).contains("the adapter of \(Self.layer) has shapes"))
        #expect(message(stored.merging([name: stored[name]! * .nan], uniquingKeysWith: { $1 })).contains("'\(name)' holds numbers"))
        try withFolder { folder in
            let error = #expect(throws: TensorFileError.self) {
                try LoRAAdapters(contentsOf: folder, attachingTo: layers, device: .cpu)
            }
            #expect(error?.description.contains("a folder without pytorch_lora_weights.safetensors") == true)
        }
    }
}
