import Foundation
import Support
import Tensors

/// DAG-Replay and DAG-Nabla: learn the anchored target from the run's finished images, through the backward
/// kernel.
///
/// An image x that a policy P sampled on the trajectory tau counts, for the target and for the pretrained
/// model,
///
///     w = exp(beta s(x)) P_base(tau) / P(tau)      u = P_base(tau) / P(tau)
///
/// each divided by its mean over the images of the same prompt (self-normalised importance weights). P_B
/// noises the images to any timestep. With epsilon*, the noise prediction that leads P_F back, DAG-Replay's
/// policy learns by
///
///     loss = (w - u) |epsilon_theta - epsilon*|^2 + u |epsilon_theta - epsilon_base|^2
///          = w d^2 - 2 (w - u) d (epsilon* - epsilon_base) + const,   d = epsilon_theta - epsilon_base
///
/// w |epsilon_theta - epsilon*|^2 alone would be maximum likelihood of P_F (Ho et al. 2020, eq. 14). It is
/// right where the pretrained model is in balance with P_B, which guidance and few steps keep it from; the
/// loss above is at its minimum at the pretrained model where beta is 0, whatever its balance. DAG-Nabla's
/// policy follows a state flow that is learned first: see `FlowGradient`.
final class Replay: Algorithm {
    /// The images of the buffer but for their data, oldest first, [n] each.
    struct State: Codable {
        var prompts: [Prompt] = []
        var scores: [Float] = []
        /// log P(tau) - log P_base(tau), sums over transitions and dimensions, nats.
        var logRatios: [Float] = []
        /// Images that came before these and are forgotten.
        var forgotten = 0
        /// c of the flow's gradient, once it was measured on the newest of these images.
        var gradientScale: Double?

        private enum CodingKeys: String, CodingKey {
            case prompts = "replay_prompts"
            case scores = "replay_scores"
            case logRatios = "replay_log_ratios"
            case forgotten = "replay_forgotten"
            case gradientScale = "flow_gradient_scale"
        }
    }

    var state = State()
    /// The ends of the trajectories, float32 [n, C, H, W] on the CPU; nil before the first.
    private var ends: Tensor?
    private let capacity: Int
    /// What DAG-Nabla's policy learns from; nil for DAG-Replay.
    let gradient: FlowGradient?
    var trainedFlow: (any FlowNetwork)? { gradient?.flow }
    /// The text of the buffer's prompts, and the place of each; nil before it is needed.
    private var text: (conditioning: Conditioning?, places: [String: Int])?

    /// - Parameter capacity: images that are kept; 0: all.
    init(capacity: Int, gradient: FlowGradient? = nil) {
        self.capacity = capacity
        self.gradient = gradient
    }

    /// Keeps images, and forgets the oldest beyond the capacity.
    /// - Parameters:
    ///   - ends: float32 [n, C, H, W].
    ///   - scores: [n]; images with NaN are left out.
    ///   - logRatios: [n].
    func keep(_ ends: Tensor, scores: [Float], logRatios: [Float], prompts: [Prompt]) {
        let new = scores.indices.filter { !scores[$0].isNaN }
        let fresh = ends.to(.cpu).rows(new)
        let all = self.ends.map { Tensor.cat([$0, fresh], 0) } ?? fresh
        let kept = capacity == 0 ? all.size(0) : min(capacity, all.size(0))
        self.ends = all.narrow(0, all.size(0) - kept, kept).clone()
        state.prompts = Array((state.prompts + new.map { prompts[$0] }).suffix(kept))
        state.scores = Array((state.scores + new.map { scores[$0] }).suffix(kept))
        state.logRatios = Array((state.logRatios + new.map { logRatios[$0] }).suffix(kept))
        state.forgotten += all.size(0) - kept
        state.gradientScale = nil
        text = nil
    }

    /// The places of the images that no flow of the run learns from: every tenth that was kept.
    var heldOut: [Int] { gradient == nil ? [] : state.prompts.indices.filter { (state.forgotten + $0) % 10 == 9 } }

    /// Finds the held-out images of the epoch that was kept last.
    /// - Parameter scores: of all its trajectories.
    /// - Returns: the places of each in the buffer and in the epoch.
    func heldOut(of scores: [Float]) -> [(place: Int, trajectory: Int)] {
        let kept = scores.indices.filter { !scores[$0].isNaN }
        let first = state.prompts.count - kept.count
        return heldOut.filter { $0 >= first }.map { ($0, kept[$0 - first]) }
    }

    /// Looks for images whose weights are one whatever their scores.
    func prepareEpoch(scores: [Float], prompts: [Prompt]) -> String? {
        let sizes = state.prompts.reduce(into: [:]) { $0[$1, default: 0] += 1 }
        let alone = sizes.values.count { $0 == 1 }
        guard 2 * alone > state.prompts.count else { return nil }
        return
            "\(alone) of the \(state.prompts.count) images to learn from are the only one of their prompt, and teach nothing: images are "
            + "compared within a prompt. More images per prompt, or fewer prompts, teach more"
    }

    /// The weights of images, [n] each, with mean one over the images of each prompt.
    struct Weights {
        /// w, for the target.
        let target: [Double]
        /// u, for the pretrained model.
        let pretrained: [Double]
        /// The largest w / u of the prompt's images.
        let bound: [Double]

        /// Computes the weights of images of the same or of several prompts.
        init(scores: [Float], logRatios: [Float], prompts: [Prompt], beta: Double) {
            let sizes = prompts.reduce(into: [:]) { $0[$1, default: 0.0] += 1 }
            func normalized(_ logWeights: [Double]) -> [Double] {
                zip(ImportanceWeights.perGroup(logWeights: logWeights, groups: prompts), prompts).map { $0 * sizes[$1]! }
            }
            target = normalized(zip(scores, logRatios).map { beta * Double($0) - Double($1) })
            pretrained = normalized(logRatios.map { -Double($0) })
            var largest: [Prompt: Double] = [:]
            for (prompt, (w, u)) in zip(prompts, zip(target, pretrained)) where w > 0 && u > 0 {
                largest[prompt] = max(largest[prompt] ?? 0, w / u)
            }
            // Any number will do where no image has both weights: the flow's loss counts no w beyond u.
            bound = prompts.map { largest[$0] ?? 1 }
        }

        /// The share of the images that as many equally weighted ones of the target would be.
        var effectiveShare: Double {
            ImportanceWeights(logWeights: target.map(log)).effectiveCount / Double(target.count)
        }
    }

    /// Noised images of an optimiser step, [n] each.
    struct Draw {
        /// Places in the buffer.
        let images: [Int]
        /// Steps of the chain.
        let steps: [Int]
        /// w and u, divided by how often the image is drawn, 1 being the average.
        let target, pretrained: [Float]
        /// The largest w / u of the prompt's images.
        let bound: [Float]
        let effectiveShare: Double
    }

    /// Computes the weights of the buffer's images.
    func weights(beta: Double) -> Weights {
        Weights(scores: state.scores, logRatios: state.logRatios, prompts: state.prompts, beta: beta)
    }

    /// Draws images in proportion to (w + u) / 2, which bounds what each counts, and a step for each: both
    /// spread evenly (systematic resampling).
    /// - Parameter heldOut: places of images that are not drawn, unless all weight is on them.
    func draw(_ count: Int, steps: Int, beta: Double, without heldOut: [Int] = [], _ seeds: Seeds) -> Draw {
        let weights = weights(beta: beta)
        let all = zip(weights.target, weights.pretrained).map { ($0 + $1) / 2 }
        var chances = all
        for place in heldOut { chances[place] = 0 }
        if !chances.contains(where: { $0 > 0 }) { chances = all }
        let images = ImportanceWeights(logWeights: chances.map(log)).resampled(count, offset: seeds.uniform(.prompt))
        let spread = seeds.uniform(.shuffle)
        let places = seeds.permutation(.shuffle, epoch: 0, count: count)
        return Draw(
            images: images, steps: places.map { min(steps - 1, Int((Double($0) + spread) * Double(steps) / Double(count))) },
            target: images.map { Float(weights.target[$0] / chances[$0]) },
            pretrained: images.map { Float(weights.pretrained[$0] / chances[$0]) }, bound: images.map { Float(weights.bound[$0]) },
            effectiveShare: weights.effectiveShare)
    }

    /// Returns the ends of trajectories, float32 [n, C, H, W], on the model's device, and their text.
    /// - Throws: errors of `DiffusionModel.encode`.
    func images(_ places: [Int], of model: any DiffusionModel) throws -> (ends: Tensor, conditioning: Conditioning?) {
        if text == nil {
            let texts = Set(state.prompts.map(\.text)).sorted()
            text = (try model.encode(texts), Dictionary(uniqueKeysWithValues: zip(texts, 0...)))
            model.releaseTextEncoder()
        }
        let rows = places.map { text!.places[state.prompts[$0].text]! }
        return (ends!.rows(places).to(model.device), text!.conditioning?.rows(rows))
    }

    /// Computes the losses of noised images, float32 [n].
    /// - Parameters:
    ///   - predicted: the policy's noise prediction, [n, C, H, W], in which the losses are differentiable.
    ///   - base: the pretrained model's.
    ///   - noise: epsilon*, [n, C, H, W].
    ///   - target: w, float32 [n].
    ///   - pretrained: u, float32 [n].
    static func loss(_ predicted: Tensor, base: Tensor, noise: Tensor, target: Tensor, pretrained: Tensor) -> Tensor {
        let dimensions = Array(1..<predicted.rank)
        let d = predicted - base
        return target * d.square().mean(dimensions) - (target - pretrained) * (d * (noise - base)).mean(dimensions) * 2
    }

    var tensors: [String: Tensor] {
        get { ends.map { ["replay.ends": $0] } ?? [:] }
        set {
            ends = newValue["replay.ends"]
            text = nil
        }
    }
}
