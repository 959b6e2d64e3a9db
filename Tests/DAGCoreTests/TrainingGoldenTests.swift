import Foundation
import Models
import NN
import Tensors
import TestSupport
import Testing

@testable import DAGCore

/// The weights of make_goldens.py's formula (flow/flow.json): a hash of the parameter's place among the
/// sorted names and the element's.
func formulaWeights(_ parameters: [(name: String, tensor: Tensor)]) {
    for (i, parameter) in parameters.enumerated() {
        let shape = parameter.tensor.shape
        let fanIn = Double(parameter.tensor.count / shape[0])
        let values = (0..<parameter.tensor.count).map { k -> Float in
            var h = UInt32(truncatingIfNeeded: k) &+ 0x9E37_79B9 &* UInt32(i + 1)
            h ^= h >> 16
            h = h &* 0x7FEB_352D
            h ^= h >> 15
            h = h &* 0x846C_A68B
            h ^= h >> 16
            let u = 2 * Double(h) / 4_294_967_296 - 1
            if shape.count > 1 { return Float(u * (3 / fanIn).squareRoot()) }
            return Float(parameter.name.hasSuffix(".weight") ? 1 + 0.1 * u : 0.1 * u)
        }
        withoutGradients { parameter.tensor.copy_(Tensor(values, shape: shape)) }
    }
}

@Suite struct TrainingGoldenTests {
    /// The state flow against diffusers' blocks: one, two and four levels, with and without text; outputs and
    /// gradients.
    @Test(arguments: ["text", "full", "plain", "one"])
    func stateFlow(name: String) throws {
        let golden = try tensors("flow/golden.safetensors")
        let document = try #require(try json("flow/flow.json") as? [String: Any])
        let expected = try #require((document["cases"] as? [String: [String: Any]])?[name]?["parameters"] as? [String: [String: Any]])
        let x = try #require(golden["\(name).x"])
        let text = golden["\(name).text"]
        let flow = try StateFlow(
            ParameterStore(seed: 0, device: .cpu), sampleShape: Array(x.shape.dropFirst()), textWidth: text?.size(2), dtype: .float32)
        #expect(Set(flow.parameters.map(\.name)) == Set(expected.keys))
        for (_, tensor) in flow.parameters { tensor.requiresGrad = true }
        formulaWeights(flow.parameters)
        let output = flow(x, times: golden["\(name).t"]!, context: text)
        #expect(difference(try output.detach().array(), try golden["\(name).output"]!.array()) < 1e-4)
        try (output * golden["\(name).loss_weight"]!).sum().backward()
        for (key, tensor) in flow.parameters {
            let norm = try #require(tensor.grad).square().sum().sqrt().item()
            let wanted = expected[key]!["grad_norm"] as! Double
            #expect(abs(norm - wanted) < 1e-3 * max(wanted, 1e-2), "\(key)")
        }
    }

    /// Ten optimiser steps against diffusers, peft and torch.optim: losses, gradient norms and where the LoRA
    /// ends.
    ///
    /// Every pass shape must give the same: all in one, some steps at a time, step by step.
    @Test(.slow, arguments: [(AlgorithmName.dagDB, 0), (.dagDB, 16), (.dagKL, 8), (.ddpo, 0)])
    func lossCurves(algorithm: AlgorithmName, rowsPerPass: Int) throws {
        let golden = try tensors("train/golden.safetensors")
        let document = try #require(try json("train/train.json") as? [String: Any])
        let expected = try #require((document["algorithms"] as? [String: [String: Any]])?[algorithm.rawValue])
        let configuration = smallConfiguration {
            $0.algorithm = algorithm
            $0.steps = 5
            $0.trainBatchSize = 4
            $0.sampleBatchSize = 4
            $0.learningRate = 3e-4
            $0.clipRange = 1e-2
            $0.maxRowsPerPass = rowsPerPass
        }
        func newUNet() throws -> UNet { try UNet(folder: ModelFolder(goldens.appendingPathComponent("unet-sd1"))) }
        let model = DiffusionPipeline(unet: try newUNet(), scheduler: try scheduler(stableDiffusionSchedule), sampleShape: [4, 16, 16])
        let kernel = try model.kernel(steps: 5, eta: 1, reduction: .mean)
        // A flow of the paper's widths.
        func newFlow(_ store: ParameterStore) throws -> any FlowNetwork {
            try StateFlow(store, sampleShape: [4, 16, 16], textWidth: model.textWidth, dtype: .float32)
        }
        let learner = try Learner(configuration, model: model, kernel: kernel, makeFlow: newFlow)
        let initial = try LoRAAdapters(
            contentsOf: goldens.appendingPathComponent("train/lora_initial.safetensors"), attachingTo: newUNet().layers, device: .cpu)
        withoutGradients { for (own, stored) in zip(learner.lora.parameters, initial.parameters) { own.tensor.copy_(stored.tensor) } }
        if let flow = learner.algorithm.trainedFlow { formulaWeights(flow.parameters) }

        func columns(_ name: String, _ count: Int) -> [Tensor] { (0..<count).map { golden[name]!.select(1, $0).contiguous() } }
        let scores = RolloutScores(
            final: try golden["rewards"]!.array(), lookahead: try columns("state_rewards", 5).map { try $0.array() })
        let rollout = Rollout(
            prompts: Array(repeating: "", count: 4), held: [0, 1, 2, 3], states: columns("states", 6), logForward: columns("log_pf", 5),
            guided: columns("rollout_output", 5), logReference: [], scores: scores)
        _ = learner.algorithm.prepareEpoch(scores: scores.final, prompts: rollout.prompts)
        let conditioning = Conditioning(prompts: golden["text"]!, empty: golden["unconditional_text"]!)
        let epoch = ScoredEpoch(index: 0, rollout: rollout, conditioning: conditioning)
        for (number, loss) in (expected["loss"] as! [Double]).enumerated() {
            let sums = try learner.step(epoch, [0, 1, 2, 3])
            let value = sums.mean(sums.loss)
            #expect(abs(value - loss) < 1e-3 * abs(loss) + (algorithm == .ddpo ? 2e-6 : 0), "step \(number): \(value), expected \(loss)")
            let norm = (expected["lora_grad_norm"] as! [Double])[number]
            #expect(agree(sums.policyGradNorm, norm, within: 1e-2), "step \(number): \(sums.policyGradNorm ?? .nan), expected \(norm)")
            if number == 0 { #expect(try #require(sums.ratioDeviation) < 1e-5) }
        }
        for (name, norm) in expected["final_lora_norms"] as! [String: Double] {
            let key = name.replacing("unet.", with: "").replacing(".weight", with: "")
            let tensor = try #require(learner.lora.parameters.first { $0.name == key }).tensor
            #expect(abs(try tensor.detach().square().sum().sqrt().item() - norm) < 1e-3 * max(norm, 1e-2), "\(name)")
        }
    }
}
