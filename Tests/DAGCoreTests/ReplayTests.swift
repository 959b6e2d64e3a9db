import AnalyticWorld
import Foundation
import Support
import Tensors
import TestSupport
import Testing

@testable import DAGCore

/// f that is linear in the state.
private struct LinearFlow: FlowNetwork {
    let slope: Tensor
    let offset: Double
    var parameters: [(name: String, tensor: Tensor)] { [("slope", slope)] }

    /// - Parameter offset: far below zero, so that log sigma(f) = f, unless it is another.
    init(slope: Float, offset: Double = -40) {
        self.offset = offset
        self.slope = Tensor([slope])
        self.slope.requiresGrad = true
    }

    func callAsFunction(_ x: Tensor, times: Tensor, context: Tensor?) -> Tensor { (x * slope).sum(Array(1..<x.rank)) + offset }
}

@Suite struct ReplayTests {
    /// The noise that replay asks for has the mean of P_F(x' | x) be that of P_B(x' | x, x_0), by Bayes' rule from the two
    /// densities of P_B; and x has the mean and deviation of P_B from the end to x, step by step.
    @Test(arguments: ["leading", "trailing"], [true, false]) func theBackwardKernel(spacing: String, endsAtOne: Bool) throws {
        let scheduler = try scheduler([
            "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "timestep_spacing": spacing, "steps_offset": 1,
            "set_alpha_to_one": endsAtOne, "clip_sample": false,
        ])
        let kernel = try DDIMKernel(scheduler: scheduler, steps: 10, eta: 1, reduction: .sum, sampleRank: 2)
        let last = kernel.transitions - 1
        let (end, fresh) = (0.7, -0.4)
        // Mean and variance of P_B(x | x_0) of the state after a step; of the chain's end first.
        var (mean, variance) = (end, 0.0)
        for k in stride(from: last, through: 0, by: -1) {
            let a = kernel.steps[k].alpha / kernel.steps[k].alphaNext
            let (x, noise) = kernel.replay(
                Tensor([Float(end)], shape: [1, 1]), noise: Tensor([Float(fresh)], shape: [1, 1]), steps: Tensor([Int64(k)]))
            let deviation = (a * variance + 1 - a).squareRoot()
            let point = Double(try x.item())
            #expect(abs(point - (a.squareRoot() * mean + deviation * fresh)) < 1e-5)
            // The product of Normal(x; sqrt(a) x', 1 - a) and Normal(x'; mean, variance).
            let posterior =
                variance == 0
                ? mean
                : (mean / variance + a.squareRoot() * point / (1 - a)) / (1 / variance + a / (1 - a))
            let next = kernel.sample(noise, x: x, noise: Tensor.zeros([1, 1]), steps: Tensor([Int64(k)])).next
            #expect(abs(Double(try next.item()) - posterior) < 2e-5, "step \(k)")
            (mean, variance) = (a.squareRoot() * mean, a * variance + 1 - a)
        }
    }

    @Test func weights() throws {
        // Prompt a: exp(2 s - l) = 1, 3; exp(-l) = 1, 1/3. Other metadata: one image, whose weights are one whatever they are.
        let (two, three) = (Float(0.5) * log(9), Float(log(3.0)))
        let other = Prompt("a", metadata: "{\"n\":1}")
        let weights = Replay.Weights(scores: [0, two, 1e4], logRatios: [0, three, -50], prompts: ["a", "a", other], beta: 2)
        for (found, expected) in zip(weights.target + weights.pretrained, [0.5, 1.5, 1, 1.5, 0.5, 1]) {
            #expect(abs(found - expected) < 1e-6)
        }
        #expect(abs(weights.effectiveShare - 9 / (3 * (0.25 + 2.25 + 1))) < 1e-6)
        let extreme = Replay.Weights(scores: [-3e30, 3e30, 0], logRatios: [0, 0, 0], prompts: ["", "", ""], beta: 100)
        #expect(extreme.target == [0, 3, 0] && extreme.pretrained == [1, 1, 1])
    }

    @Test func draws() throws {
        let replay = Replay(capacity: 3)
        let ends = Tensor.zeros([4, 1, 1, 1])
        // The first is beyond the capacity, and one has no score.
        replay.keep(ends.narrow(0, 0, 1), scores: [9], logRatios: [0], prompts: ["a"])
        replay.keep(ends, scores: [0, .nan, Float(log(3.0)), 0], logRatios: [0, 0, 0, 0], prompts: ["a", "a", "a", "b"])
        #expect(replay.state.prompts == ["a", "a", "b"] && replay.tensors["replay.ends"]?.size(0) == 3)
        let draw = replay.draw(600, steps: 4, beta: 1, Seeds(3))
        // w = 1/2, 3/2, 1; u = 1; chances of (w + u) / 2.
        #expect((0..<3).map { image in draw.images.count { $0 == image } } == [150, 250, 200])
        #expect((0..<4).map { step in draw.steps.count { $0 == step } } == [150, 150, 150, 150])
        for (k, image) in draw.images.enumerated() {
            #expect(abs(draw.target[k] - [2 / 3.0, 1.2, 1][image]) < 1e-6)
            #expect(abs(draw.pretrained[k] - [4 / 3.0, 0.8, 1][image]) < 1e-6)
        }
        // Steps do not follow the images.
        #expect(Set(zip(draw.images, draw.steps).map { $0 * 4 + $1 }).count == 12)
    }

    /// Images without another of their prompt are told of where they are more than half.
    @Test func imagesAlone() {
        let replay = Replay(capacity: 0)
        func said(_ prompts: [Prompt]) -> String? {
            replay.keep(
                Tensor.zeros([prompts.count, 1, 1, 1]), scores: prompts.map { _ in 0 }, logRatios: prompts.map { _ in 0 }, prompts: prompts)
            return replay.prepareEpoch(scores: prompts.map { _ in 0 }, prompts: prompts)
        }
        #expect(said(["a", "b", "b"]) == nil)
        #expect(said(["c", "d", "e"])?.hasPrefix("4 of the 6 images to learn from are the only one of their prompt") == true)
        #expect(said(["a", "c"]) == nil)
    }

    /// The loss is what its two terms say, up to what does not depend on theta.
    @Test func theLoss() throws {
        let generator = Generator(seed: 1)
        let parts = (0..<3).map { _ in Tensor.randn([2, 1, 2, 3], generator: generator) }
        let (w, u) = (Tensor([0.3, 1.8] as [Float]), Tensor([1.1, 0.4] as [Float]))
        func difference(_ moved: Tensor, _ loss: (Tensor) -> Tensor) throws -> [Float] { try (loss(moved) - loss(parts[0])).array() }
        let moved = parts[0] + Tensor.randn([2, 1, 2, 3], generator: generator)
        let found = try difference(moved) { Replay.loss($0, base: parts[1], noise: parts[2], target: w, pretrained: u) }
        let expected = try difference(moved) {
            (w - u) * ($0 - parts[2]).square().mean([1, 2, 3]) + u * ($0 - parts[1]).square().mean([1, 2, 3])
        }
        for (a, b) in zip(found, expected) { #expect(abs(a - b) < 1e-5) }
    }

    /// At states that more than one image leads to, the flow's loss is least where sigma(f) is the ratio of their mean weights
    /// over the bound.
    @Test func theFlowsLoss() throws {
        let (w, u) = (Tensor([0.5, 3] as [Float]), Tensor([1, 0.4] as [Float]))
        func slope(_ kept: Double) throws -> Double {
            let point = Tensor([Float(log(kept / (1 - kept)))])
            point.requiresGrad = true
            try FlowGradient.loss(point, target: w, pretrained: u, bound: Tensor([10, 10] as [Float])).sum().backward()
            return Double(try #require(point.grad).item())
        }
        #expect(try abs(slope(3.5 / 1.4 / 10)) < 1e-6)
        #expect(try slope(0.27) > 0.02 && slope(0.23) < -0.02)
        // No more is kept than there is.
        let logit = Tensor([30] as [Float])
        let one = Tensor([1] as [Float])
        #expect(try FlowGradient.loss(logit, target: one, pretrained: Tensor.zeros([1]), bound: one).array(Float.self) == [0])
    }

    /// The gradient is that of log sigma(f), which the slope of f bounds.
    @Test func theGradientOfTheShare() throws {
        let flow = LinearFlow(slope: 0.5, offset: 0.25)
        let x = Tensor.randn([3, 1, 2, 2], generator: Generator(seed: 5))
        let values = try flow(x, times: Tensor([0, 0, 0] as [Int64]), context: nil).detach().array(Float.self)
        let gradient = try FlowGradient(flow: flow)(x, times: Tensor([0, 0, 0] as [Int64]), context: nil).gradient.array(Float.self)
        for (k, value) in gradient.enumerated() { #expect(abs(value - 0.5 / (1 + exp(values[k / 4]))) < 1e-6) }
    }

    /// Data that is Normal(0, 1), weighted by exp(a x0), is Normal(a, 1): the flow a sqrt(abar) x + const turns the one's noise
    /// prediction, sqrt(1 - abar) x, into the other's. The flow's weights get no gradient.
    @Test func theFlowsGradientLeadsToTheTarget() throws {
        let scheduler = try scheduler(["beta_schedule": "linear", "timestep_spacing": "leading", "clip_sample": false])
        let kernel = try DDIMKernel(scheduler: scheduler, steps: 10, eta: 1, reduction: .sum, sampleRank: 4)
        let (a, step) = (0.8, 4)
        let alpha = kernel.steps[step].alpha
        let flow = LinearFlow(slope: Float(a * alpha.squareRoot()))
        let x = Tensor.randn([3, 1, 2, 2], generator: Generator(seed: 5))
        let gradient = try FlowGradient(flow: flow)(x, times: kernel.times([step, step, step]), context: nil).gradient
        #expect(flow.slope.grad == nil && flow.slope.requiresGrad && !gradient.requiresGrad && !x.requiresGrad)
        let change = kernel.noise(ofGradient: gradient, steps: Tensor([Int64](repeating: Int64(step), count: 3)))
        let deviation = (1 - alpha).squareRoot()
        let expected = (x - alpha.squareRoot() * a) * deviation - x * deviation
        for (a, b) in try zip(change.array(Float.self), expected.array(Float.self)) { #expect(abs(a - b) < 1e-6) }
    }

    /// Two normal densities, mean 0 and a, whose flow is known: on a chain of the first it adds up to 2 KL.
    /// What misses a part is scaled up, and steps of noise do not count.
    @Test func scaleOfTheGradient() throws {
        let scheduler = try scheduler(["beta_schedule": "linear", "timestep_spacing": "leading", "clip_sample": false])
        let kernel = try DDIMKernel(scheduler: scheduler, steps: 100, eta: 1, reduction: .sum, sampleRank: 4)
        let (a, count) = (0.5, 20_000)
        let generator = Generator(seed: 3)
        func normal() -> Tensor { Tensor.randn([count, 1, 1, 1], generator: generator) }
        var (exact, noisy) = ([[Double]](repeating: [], count: count), [[Double]](repeating: [], count: count))
        var x = normal()
        for step in 0..<kernel.transitions {
            let steps = Tensor([Int64](repeating: Int64(step), count: count))
            let alpha = kernel.steps[step].alpha
            let output = x * (1 - alpha).squareRoot()
            let next = kernel.sample(output, x: x, noise: normal(), steps: steps).next
            func add(_ direction: Tensor, to projections: inout [[Double]]) throws {
                let change = kernel.noise(ofGradient: direction * (a * alpha.squareRoot()), steps: steps)
                let found = kernel.projection(of: change, on: next, from: output, x: x, steps: steps)
                for (image, number) in try found.array(Float.self).enumerated() { projections[image].append(Double(number)) }
            }
            try add(Tensor.full([count, 1, 1, 1], 1), to: &exact)
            try add(normal(), to: &noisy)
            x = next
        }
        // w = exp(a x - a^2 / 2), of mean 1 under Normal(0, 1).
        let target = try (x * a - a * a / 2).exp().array(Float.self).map(Double.init)
        func scale(_ projections: [[Double]], times factor: Double = 1) -> FlowGradient.Scale {
            FlowGradient.Scale(
                of: .gradient, projections: projections.map { $0.map { $0 * factor } }, ratios: projections.map { $0.map { _ in 1 } },
                target: target, pretrained: target.map { _ in 1 })
        }
        let sum = zip(exact, target).reduce(0) { $0 + $1.0.reduce(0, +) * ($1.1 - 1) } / Double(count)
        #expect(abs(sum - a * a) < 0.15 * a * a, "\(sum)")
        #expect(scale(exact).value < 1.15 && scale(exact).warning == nil)
        let part = scale(exact, times: 1 / 1.6)
        let divergence = target.reduce(0) { $0 + $1 * log($1) - $1 + 1 } / Double(count)
        #expect(abs(part.value - 1.6 * 2 * divergence / sum) < 0.02 && part.warning == nil, "\(part.value)")
        #expect(scale(exact, times: 1 / 4.0).value == 2)
        #expect(scale(exact, times: 1 / 4.0).warning?.contains("% of what the target asks for") == true)
        // A step of noise does not count, however large it is.
        let mixed = scale(zip(exact, noisy).map { $0.map { $0 / 1.6 } + $1.map { $0 * 1000 }[50...50] })
        #expect(mixed.value == part.value && mixed.warning == nil, "\(mixed.value)")
        #expect(scale(noisy).warning != nil)
        #expect(scale(exact, times: -1).value == 1 && scale(exact, times: -1).warning?.contains("cannot be told from noise") == true)
    }

    /// Where the predicted data is clipped, a change of the noise moves the mean by what P_F makes of it.
    @Test func projectionWithClipping() throws {
        let kernel = try DDIMKernel(
            scheduler: scheduler(["beta_schedule": "linear", "clip_sample": true]), steps: 10, eta: 1, reduction: .sum, sampleRank: 4)
        let generator = Generator(seed: 2)
        func normal() -> Tensor { Tensor.randn([20, 1, 2, 2], generator: generator) }
        let steps = Tensor((0..<20).map { Int64($0 % 8) })
        let (x, output, change, noise) = (normal(), normal() * 0.5, normal() * 0.1, normal())
        let next = kernel.sample(output, x: x, noise: noise, steps: steps).next
        let changed = output + change
        // |a|^2 / 2 + |b|^2 / 2 - |a - b|^2 / 2 = a . b
        let expected =
            kernel.logForward(changed, x: x, next: next, steps: steps) - kernel.logForward(output, x: x, next: next, steps: steps)
            + kernel.divergence(changed, from: output, x: x, steps: steps)
        let found = kernel.projection(of: change, on: next, from: output, x: x, steps: steps)
        for (a, b) in try zip(found.array(Float.self), expected.array(Float.self)) {
            #expect(abs(a - b) < 1e-3 * (1 + abs(b)), "\(a) \(b)")
        }
    }

    @Test func scalesByHand() {
        func scale(
            _ count: Int, _ projections: [Double], noise: Double = 0, ratio: Double = 1, target: Double = 0.5, times factor: Double = 1,
            of moves: FlowGradient.Moves = .gradient
        ) -> FlowGradient.Scale {
            // Every other trajectory has the weight that the one before lacks, and is moved the other way, within a thousandth; the
            // last step moves some up and some down.
            FlowGradient.Scale(
                of: moves,
                projections: (0..<count).map { k in
                    let (side, isFirst) = (k % 2 == 0 ? 1.0 : -1, k % 4 < 2)
                    return projections.map { $0 * side * (isFirst ? 0.999 : 1.001) } + [side * (0.02 + (isFirst ? noise : -noise))]
                }, ratios: [[Double]](repeating: [Double](repeating: ratio, count: projections.count + 1), count: count),
                target: (0..<count).map { ($0 % 2 == 0 ? 2 - target : target) * factor }, pretrained: [Double](repeating: 1, count: count))
        }
        // 2 KL: 1.5 log 1.5 + 0.5 log 0.5 = 0.26; S_t: a half of the projections, 0.1, 0.1, -0.05 and 0.01.
        let whole = 1.5 * log(1.5) + 0.5 * log(0.5)
        let small = scale(100, [0.2, 0.2, -0.1])
        #expect(abs(small.value - whole / 0.16) < 1e-5 && small.warning == nil)
        // Errors of 0.025 and 0.027, the limit being 0.026: the last step does not count then.
        #expect(abs(scale(100, [0.2, 0.2, -0.1], noise: 0.5).value - whole / 0.16) < 1e-5)
        #expect(abs(scale(100, [0.2, 0.2, -0.1], noise: 0.54).value - whole / 0.15) < 1e-5)
        // The ratio takes out what has no mean, and the mean of the weights is not one.
        #expect(abs(scale(100, [0.2, 0.2, -0.1], ratio: 0.7).value - small.value) < 1e-5)
        #expect(abs(scale(100, [0.2, 0.2, -0.1], ratio: 3, times: 3).value - small.value) < 1e-5)
        let part = scale(100, [0.1])
        #expect(part.value == 2 && part.warning?.contains("the flow's gradient is 22% of what the target asks for") == true)
        // A policy that has moved too far goes back; a gradient cannot be more than there is.
        #expect(abs(scale(100, [0.4, 0.2, 0.1], of: .policy).value - whole / 0.36) < 1e-5)
        #expect(scale(100, [0.4, 0.2, 0.1]).value == 1)
        let far = scale(100, [3], of: .policy)
        #expect(far.value == 0.5 && far.warning?.contains("is 577% of what the target asks for. A lower learning rate") == true, "\(far)")
        let learned = scale(100, [0.1], of: .policy)
        #expect(learned.value == 2 && learned.warning?.contains("what the policy has learned is 22% of what the target asks for") == true)
        let few = scale(99, [0.2])
        #expect(few.value == 1 && few.warning?.contains("99 held-out images, a tenth of those") == true)
        #expect(scale(0, [0.2]).value == 1 && scale(100, [-0.02]).value == 1)
        // A w that vanishes, and a u.
        #expect(abs(scale(100, [0.8], target: 0).value - 2 * log(2.0) / 0.82) < 1e-5)
        let none = FlowGradient.Scale(
            of: .gradient, projections: [[Double]](repeating: [0.1], count: 100), ratios: [[Double]](repeating: [0], count: 100),
            target: [Double](repeating: 1, count: 100), pretrained: [0] + [Double](repeating: 1, count: 99))
        #expect(none.value == 1 && none.warning?.contains("cannot be told from noise") == true)
    }

    /// The flow does not learn from every tenth of the images, and is measured on them.
    @Test func heldOutImages() throws {
        let folder = try TemporaryFolder()
        let learner = try trainer(
            smallConfiguration { ($0.algorithm, $0.target, $0.flowUpdates, $0.trainBatchSize) = (.dagNabla, .anchored, 2, 60) }, folder
        ).learner
        guard case .replay(let replay) = learner.method else { throw OrderError("no replay") }
        func keep(_ count: Int, in replay: Replay) {
            replay.keep(
                Tensor.zeros([count, 1, 1, 1]), scores: [Float](repeating: 0, count: count), logRatios: [Float](repeating: 0, count: count),
                prompts: [Prompt](repeating: "a", count: count))
        }
        keep(25, in: replay)
        replay.state.gradientScale = 1.5
        keep(5, in: replay)
        #expect(replay.heldOut == [9, 19, 29] && replay.state.gradientScale == nil)
        // The last five images, of seven trajectories: the 30th image is that of the last.
        let epoch = replay.heldOut(of: [0, .nan, 0, 0, .nan, 0, 0])
        #expect(epoch.map(\.place) == [29] && epoch.map(\.trajectory) == [6])
        #expect(Set(learner.draw(replay, epoch: 0, update: 1).images) == Set(0..<30).subtracting([9, 19, 29]))
        #expect(Set(learner.draw(replay, epoch: 0, update: 2).images) == Set(0..<30))
        #expect(Set(replay.draw(60, steps: 2, beta: 0, without: Array(0..<30), Seeds(1)).images) == Set(0..<30))
        let small = Replay(capacity: 12, gradient: replay.gradient)
        for _ in 0..<2 { keep(8, in: small) }
        // The tenth of 16, of which four are forgotten.
        #expect(small.state.forgotten == 4 && small.heldOut == [5] && Replay(capacity: 0).heldOut.isEmpty)
        // The buffer has the last twelve of an epoch of twenty.
        keep(20, in: small)
        let newest = small.heldOut(of: [Float](repeating: 0, count: 20))
        #expect(small.heldOut == newest.map(\.place) && newest.map { $0.trajectory - $0.place } == newest.map { _ in 8 })
    }

    /// With another eta than 1 the scale is not measured, which is said once.
    @Test func otherEtasAreNotMeasured() throws {
        let (folder, world) = (try TemporaryFolder(), AnalyticWorld(.anchored))
        let configuration = world.configuration {
            ($0.algorithm, $0.eta, $0.steps, $0.epochs, $0.sampleBatchSize, $0.batchesPerEpoch) = (.dagNabla, 0.5, 4, 1, 250, 4)
            ($0.trainBatchSize, $0.flowUpdates, $0.replayUpdates) = (50, 1, 2)
        }
        let trainer = try world.trainer(configuration, folder: folder.url)
        var warnings: [String] = []
        trainer.monitor.onWarning = { warnings.append($0) }
        try trainer.begin()
        let before = trainer.model.work.networkRows
        try trainer.runEpoch()
        let plan = trainer.plan.epoch(0)
        #expect(trainer.model.work.networkRows - before == plan.sampledRows + plan.trainedRows)
        #expect(warnings.count { $0.hasPrefix("eta 0.5: the flow's gradient is followed as it is") } == 1, "\(warnings)")
        guard case .replay(let replay) = trainer.learner.method else { throw OrderError("no replay") }
        #expect(replay.state.gradientScale == nil && replay.heldOut.count == 100)
    }

    /// Ranks measure the scales together, to the same bits as one, and a checkpoint keeps the gradient's. The policy
    /// and its average are scaled after the last step.
    @Test func theScaleOnSeveralRanks() throws {
        let world = AnalyticWorld(.anchored)
        let configuration = world.configuration {
            ($0.algorithm, $0.steps, $0.epochs, $0.sampleBatchSize, $0.batchesPerEpoch) = (.dagNabla, 10, 1, 250, 8)
            ($0.trainBatchSize, $0.gradientAccumulationSteps, $0.flowUpdates, $0.replayUpdates) = (50, 4, 80, 40)
            ($0.flowLearningRate, $0.maxRowsPerPass, $0.emaDecay, $0.lrScheduler) = (1e-3, 64, 0.5, .linear)
        }
        @Sendable func norm(_ parameters: [(name: String, tensor: Tensor)]) throws -> Double {
            let moved = parameters.filter { $0.name.hasSuffix("lora_B") }
            return try Tensor.stack(moved.map { $0.tensor.detach().square().sum() }, 0).sum().item().squareRoot()
        }
        var scales: [[Double?]] = []
        for count in [1, 3] {
            scales += try onRanks(count) { team in
                let folder = try TemporaryFolder()
                let trainer = try world.trainer(configuration, folder: folder.url, team: team)
                let (learner, lora) = (trainer.learner, trainer.learner.lora.parameters)
                var (norms, averages, policy): ([Double], [Double], Double?) = ([], [], nil)
                trainer.onStep = { step in
                    norms += (try? [norm(lora)]) ?? []
                    averages += (try? [learner.withAverage { try norm(lora) }]) ?? []
                    policy = step.algorithmMetrics["policy_scale"]
                }
                try trainer.begin()
                let before = trainer.model.work.networkRows
                try trainer.runEpoch()
                let (plan, rows) = (trainer.plan.epoch(0), trainer.model.work.networkRows - before)
                #expect(count > 1 || rows == plan.sampledRows + plan.trainedRows)
                // The last step itself changes little.
                let factor = try #require(policy)
                #expect(factor > 1.2, "\(factor)")
                #expect(norms.count == 120 && averages.count == 120)
                #expect(abs(norms[119] / norms[118] / factor - 1) < 0.05, "\(norms[118...]) \(factor)")
                #expect(abs(averages[119] / averages[118] / factor - 1) < 0.05, "\(averages[118...]) \(factor)")
                guard case .replay(let replay) = trainer.learner.method else { throw OrderError("no replay") }
                let stored = try JSONDecoder().decode(Replay.State.self, from: JSONEncoder().encode(replay.state))
                #expect(stored.gradientScale == replay.state.gradientScale)
                return [stored.gradientScale, factor, norms[119], averages[119]]
            }.map { try $0.get() }
        }
        let scale = try #require(scales[0][0])
        #expect(scales == [[Double?]](repeating: scales[0], count: 4), "\(scales)")
        #expect(scale > 1 && scale < 2, "\(scale)")
    }

    /// The largest w / u is that of the prompt's best score, whatever path its images came by; a draw brings it to the flow's loss.
    @Test func theBoundOfWeights() throws {
        let prompts = ["a", "a", "a", "b", "b"].map { Prompt($0) }
        let weights = Replay.Weights(scores: [-1, 0, -2, 3, 1], logRatios: [0, 2, -5, 0, 0], prompts: prompts, beta: 1)
        let ratios = zip(weights.target, weights.pretrained).map { $0 / $1 }
        #expect(weights.bound == [1, 1, 1, 3, 3].map { ratios[$0] })
        #expect(abs(weights.bound[3] - 2 / (1 + exp(-2))) < 1e-6)
        // u of the better image underflows, w of the other.
        let apart = Replay.Weights(scores: [0, 0], logRatios: [0, -2000], prompts: [Prompt("a"), Prompt("a")], beta: 1)
        #expect(apart.bound == [1, 1] && apart.pretrained[0] == 0)
        let learner = try learner(smallConfiguration { ($0.algorithm, $0.target) = (.dagNabla, .anchored) })
        guard case .replay(let replay) = learner.method else { throw OrderError("no replay") }
        let shape = [5] + learner.model.sampleShape
        replay.keep(Tensor.zeros(shape), scores: [-1, 0, -2, 3, 1], logRatios: [0, 2, -5, 0, 0], prompts: prompts)
        let draw = learner.draw(replay, epoch: 0, update: 0)
        let all = replay.weights(beta: 10).bound.map { Float($0) }
        #expect(draw.bound == draw.images.map { all[$0] } && Set(all).count == 2)
        let images = try learner.noisedImages(Array(draw.images.indices), of: draw, Seeds(0), replay)
        #expect(try images.bound.array(Float.self) == draw.bound)
    }

    /// The flow's steps leave the adapters and their average alone, and the policy's the flow.
    @Test func flowComesFirst() throws {
        let folder = try TemporaryFolder()
        let configuration = smallConfiguration {
            ($0.algorithm, $0.target, $0.flowUpdates, $0.replayUpdates, $0.epochs) = (.dagNabla, .anchored, 2, 2, 1)
            $0.emaDecay = 0.9
        }
        let trainer = try trainer(configuration, folder)
        func weights(_ parameters: [(name: String, tensor: Tensor)]) throws -> [Float] {
            try parameters.flatMap { try $0.tensor.detach().array(Float.self) }
        }
        func now() throws -> (policy: [Float], flow: [Float], average: [Float]) {
            let (lora, flow) = (trainer.learner.lora.parameters, try #require(trainer.learner.algorithm.trainedFlow))
            return (try weights(lora), try weights(flow.parameters), try trainer.learner.withAverage { try weights(lora) })
        }
        var seen = [try now()]
        trainer.onStep = { step in
            #expect((step.flowGradNorm != nil) == (seen.count < 3) && (step.policyGradNorm != nil) == (seen.count >= 3))
            #expect(step.flowGradNorm ?? 1 > 0 && step.policyGradNorm ?? 1 > 0)
            if let now = try? now() { seen.append(now) }
        }
        try trainer.run()
        #expect(zip(seen, seen.dropFirst()).map { $0.policy != $1.policy } == [false, false, true, true])
        #expect(zip(seen, seen.dropFirst()).map { $0.flow != $1.flow } == [true, true, false, false])
        #expect(zip(seen, seen.dropFirst()).map { $0.average != $1.average } == [false, false, true, true])
        // The average begins with the policy's first step.
        #expect(seen[3].average == seen[3].policy)
    }

    /// With beta 0 the target is the pretrained model: nothing is learned, to the bit.
    @Test func betaZeroLearnsNothing() throws {
        let folder = try TemporaryFolder()
        let configuration = smallConfiguration {
            ($0.algorithm, $0.target, $0.replayUpdates, $0.beta, $0.epochs) = (.dagReplay, .anchored, 2, 0, 1)
        }
        let trainer = try trainer(configuration, folder)
        var norms: [Double?] = []
        trainer.onStep = { norms.append($0.policyGradNorm) }
        try trainer.run()
        #expect(norms == [0, 0])
    }

    /// On a line whose target is known, the modes get their shares; the first epoch's images are the pretrained model's.
    @Test(.slow, arguments: [AlgorithmName.dagReplay, .dagNabla]) func modesGetTheirShares(algorithm: AlgorithmName) throws {
        let (folder, world) = (try TemporaryFolder(), AnalyticWorld(.anchored))
        let configuration = world.configuration {
            ($0.algorithm, $0.steps, $0.replayUpdates) = (algorithm, 25, 300)
            ($0.epochs, $0.batchesPerEpoch) = algorithm == .dagReplay ? (2, 8) : (1, 16)
            ($0.trainBatchSize, $0.learningRate, $0.flowLearningRate, $0.flowUpdates) = (256, 1e-3, 1e-3, 300)
        }
        let trainer = try world.trainer(configuration, folder: folder.url)
        let samples = 8192
        let truth = world.truth(beta: 1, pretrained: try world.levels(trainer, samples: samples))
        func distance() throws -> Double {
            AnalyticWorld.totalVariation(AnalyticWorld.histogram(try world.levels(trainer, samples: samples)), truth)
        }
        #expect(try distance() > 0.25)
        // The first epoch measures, besides.
        try trainer.begin()
        let before = trainer.model.work.networkRows
        try trainer.runEpoch()
        let (plan, rows) = (trainer.plan.epoch(0), trainer.model.work.networkRows - before)
        #expect(rows == plan.sampledRows + plan.trainedRows)
        if case .replay(let replay) = trainer.learner.method, algorithm == .dagNabla {
            // The flow of a line has found nearly all that there is.
            let scale = try #require(replay.state.gradientScale)
            #expect((1..<1.25).contains(scale), "\(scale)")
        }
        try trainer.run()
        let reached = try distance()
        #expect(reached < 0.1, "\(reached)")
    }
}
