import Support
import Foundation
import Tensors
import Testing

@testable import DAGCore

@Suite struct AlgorithmTests {
    /// The states of a trajectory of one transition.
    private let single = FlowStates(transitions: 1, spacing: 1)

    /// Proposition 2: on on-policy data the expected gradients of DAG-DB and DAG-KL agree.
    ///
    /// A policy Normal(theta, 1) in one dimension and arbitrary bounded flows: with r = -delta, DAG-DB's
    /// gradient is 2 E[delta grad log P_F], DAG-KL's is E[delta grad log P_F] / s, where s is the standard
    /// deviation of r.
    @Test(arguments: [-0.5, 0.3, 1.2])
    func expectedGradientsAgreeOnPolicy(theta: Double) throws {
        let count = 400_000
        let parameter = Tensor([Float(theta)])
        let sample = Tensor.randn([count], generator: Generator(seed: 5)) + theta
        func logForward() -> Tensor { (sample - parameter).square() * -0.5 - 0.5 * Foundation.log(2 * .pi) }
        let atRollout = logForward()
        parameter.requiresGrad = true
        // log F(x_t) - log P_B - log F(x_t') such that delta is bounded: the clip of the advantage must not
        // act.
        let flow = (now: (sample * 1.5).sin(), next: Tensor.zeros([count]))
        let logBackward = atRollout + sample.cos() * 0.7
        func gradient(_ algorithm: any TransitionAlgorithm) throws -> (gradient: Double, deviation: Double) {
            let transitions = Transitions(
                trajectories: Array(0..<count), steps: Array(repeating: 0, count: count), groupSize: count, logForward: logForward(),
                logForwardAtRollout: atRollout, logBackward: logBackward, weight: Tensor.full([count], 1), logFlows: { _ in flow })
            try algorithm.loss(transitions).values.mean().backward()
            defer { parameter.clearGrad() }
            let residuals = try transitions.residual(NoFlow(), logForward: atRollout).array(Float.self)
            return (try #require(parameter.grad).item(), Moments(residuals).deviation)
        }
        let balance = try gradient(DetailedBalance(flow: NoFlow()))
        let divergence = try gradient(DetailedBalanceKL(flow: NoFlow(), single, coefficient: 1, clipRange: 0.5))
        let expected = balance.gradient / 2
        #expect(abs(expected) > 0.05)
        #expect(abs(divergence.gradient * divergence.deviation - expected) < 0.03 * abs(expected) + 2e-3)
    }

    /// Both flows and the policy get DB's gradient; the policy gets none of the squared residual in KL.
    @Test func gradientsGoWhereTheyShould() throws {
        func leaf(_ values: [Float]) -> Tensor {
            let tensor = Tensor(values)
            tensor.requiresGrad = true
            return tensor
        }
        let (forward, now, next) = (leaf([-1, -2, 0.5]), leaf([0.5, 0, 1]), leaf([1, 2, 3]))
        let transitions = Transitions(
            trajectories: [0, 1, 2], steps: [0, 0, 0], groupSize: 3, logForward: forward, logForwardAtRollout: forward.detach(),
            logBackward: Tensor([-0.5, 0.25, 1] as [Float]), weight: Tensor.full([3], 1), logFlows: { _ in (now, next) })
        let delta: [Float] = [-1, -4.25, -2.5]
        try DetailedBalance(flow: NoFlow()).loss(transitions).values.sum().backward()
        #expect(try forward.grad!.array(Float.self) == delta.map { 2 * $0 })
        #expect(try now.grad!.array(Float.self) == delta.map { 2 * $0 })
        #expect(try next.grad!.array(Float.self) == delta.map { -2 * $0 })
        for tensor in [forward, now, next] { tensor.clearGrad() }
        try DetailedBalanceKL(flow: NoFlow(), single, coefficient: 0, clipRange: 0.1).loss(transitions).values.sum().backward()
        #expect(try forward.grad!.array(Float.self) == [0, 0, 0])
        #expect(try now.grad!.array(Float.self) == delta.map { 2 * $0 })
        for tensor in [forward, now, next] { tensor.clearGrad() }
        let ddpo = DDPO(clipRange: 0.1, comparison: .epoch)
        ddpo.state.advantages = [1, -1, 2]
        let loss = try ddpo.loss(transitions)
        #expect(loss.metrics == ["clip_fraction": [0, 0, 0]])
        try loss.values.sum().backward()
        #expect(try forward.grad!.array(Float.self) == [-1, 1, -2])
    }

    /// The clip stops a policy that has moved far enough in the direction of the advantage, and only then.
    @Test func clippedSurrogateStopsAtTheRange() throws {
        let ratio = Tensor([1.3, 1.3, 0.7, 0.7] as [Float])
        ratio.requiresGrad = true
        let surrogate = ClippedSurrogate(clipRange: 0.2)
        try surrogate.loss(advantage: Tensor([1, -1, 1, -1] as [Float]), ratio: ratio).sum().backward()
        #expect(try ratio.grad!.array(Float.self) == [0, 1, -1, 0])
        #expect(try surrogate.clipped(Tensor([1.3, 1.1, 0.7, 1] as [Float])) == [1, 0, 1, 0])
    }

    /// GRPO's advantages are those of each prompt's scores in the epoch; prompts without any are told of.
    @Test func groupAdvantages() {
        let grpo = DDPO(clipRange: 0.1, comparison: .group)
        let prompts: [Prompt] = ["easy", "hard", "easy", "hard", "easy", "alone", "equal", "equal", "hard"]
        let warning = grpo.prepareEpoch(scores: [10, 1, 12, 3, .nan, 7, 5, 5, 2], prompts: prompts)
        #expect(warning?.hasPrefix("the images of 2 of the epoch's 4 prompts all have the same score") == true)
        let two = Float(0.5).squareRoot()
        let expected: [Float] = [-1, -1, 1, 1, 0, 0, 0, 0, 0]
        for (k, (found, sign)) in zip(grpo.state.advantages, expected).enumerated() {
            // Of two scores each is 1/sqrt(2) deviations from the mean; of 1, 2, 3 the ends are one.
            #expect(abs(found - sign * (k % 2 == 0 ? two : 1)) < 1e-6, "\(k)")
        }
        #expect(grpo.prepareEpoch(scores: [1, 2, 3, 4, .nan], prompts: ["easy", "easy", "hard", "hard", "dropped"]) == nil)
    }

    @Test func promptStatisticsWaitForEnoughRewards() {
        var statistics = PromptStatistics()
        let epoch = (0..<20).map { Float($0 % 4) }
        let prompts: [Prompt] = (0..<20).map { $0 < 16 ? "often" : "rare" }
        let advantages = statistics.advantages(epoch, prompts: prompts)
        // "often" has 16 rewards and is normalised by itself, "rare" by the epoch.
        let own = Moments(Array(epoch.prefix(16)))
        #expect(abs(Double(advantages[3]) - (3 - own.mean) / own.deviation) < 1e-6)
        let whole = Moments(epoch)
        #expect(abs(Double(advantages[19]) - (3 - whole.mean) / whole.deviation) < 1e-6)
        #expect(statistics.shortage(prompts)?.hasPrefix("1 of the epoch's 2 prompts have fewer than 16 scores so far") == true)
        _ = statistics.advantages(Array(epoch.prefix(12)), prompts: Array(repeating: "rare", count: 12))
        #expect(statistics.shortage(prompts) == nil)
    }

    /// All of an epoch's scores of a prompt count, so that their mean advantage is 0; of epochs with few, the
    /// newest 16.
    @Test func promptStatisticsHoldAnEpoch() {
        var statistics = PromptStatistics()
        for (epoch, counts) in [[29, 35], [17, 47], [64, 0]].enumerated() {
            // Of the same text, with other metadata.
            let b = Prompt("a", metadata: "{\"n\":1}")
            let prompts: [Prompt] = (0..<64).map { $0 % 2 == 0 && $0 / 2 < counts[1] || $0 / 2 >= counts[0] ? b : "a" }
            let scores = (0..<64).map { Float(prompts[$0] == "a" ? 10 : 0) + sin(Float($0 * (epoch + 3))) }
            let advantages = zip(prompts, statistics.advantages(scores, prompts: prompts))
            for prompt in Set(prompts) {
                let own = advantages.filter { $0.0 == prompt }.map { Double($0.1) }
                #expect(own.count > 16 && abs(own.reduce(0, +)) < 1e-5 && abs(Moments(own).deviation - 1) < 1e-6, "\(prompt)")
            }
        }
        let few = Array(repeating: Float(7), count: 8)
        let advantages = statistics.advantages(few, prompts: Array(repeating: "new", count: 8))
        #expect(advantages.allSatisfy { $0 == 0 })
        let newest: [Float] = [1, 2, 3, 4, 5, 6, 7, 8]
        let own = Moments(few + newest)
        let expected = newest.map { Float((Double($0) - own.mean) / own.deviation) }
        #expect(statistics.advantages(newest, prompts: Array(repeating: "new", count: 8)) == expected)
    }

    /// Scores that are equal, or differ by rounding, have no advantage, whatever their size and number.
    @Test(arguments: [95.123, 0.1, 0.3, -16.1, 21.7, 1, 1e30, -3e38, Float(bitPattern: 714)] as [Float], [2, 16, 64, 100])
    func equalScoresHaveNoAdvantage(score: Float, count: Int) {
        for other in [score, score.nextUp] {
            // The bits of 1e-42 (714 times the least number) are too few for one of them to be rounding.
            guard other == score || score.isNormal else { continue }
            var scores = Array(repeating: score, count: count)
            scores[0] = other
            #expect(Moments(scores).deviation == 0)
            #expect(PromptStatistics.epochAdvantages(scores).allSatisfy { $0 == 0 })
            var statistics = PromptStatistics()
            #expect(statistics.advantages(scores, prompts: scores.map { _ in "a" }).allSatisfy { $0 == 0 })
            #expect(DetailedBalanceKL.advantages(scores).allSatisfy { $0 == 0 })
        }
    }

    /// Advantages do not depend on the scores' scale.
    @Test(arguments: [1, 1e-12, 1e-30, 1e12, 1e30, 1e38] as [Float]) func advantagesHaveNoScale(scale: Float) {
        let advantages = PromptStatistics.epochAdvantages([0, 1, 2, .nan].map { $0 * scale })
        #expect(zip(advantages, [-1, 0, 1, 0]).allSatisfy { abs($0 - $1) < 1e-6 }, "\(advantages)")
        // One of sixteen is 15 / 4 deviations above the mean, the others are a quarter below it.
        let outlier = PromptStatistics.epochAdvantages([scale] + Array(repeating: 0, count: 15))
        #expect(outlier[0] == 3.75 && outlier.dropFirst().allSatisfy { $0 == -0.25 })
    }

    /// DAG-KL's advantages are those of its definition: mean and spread over the others, each from its own
    /// leave-one-out mean.
    @Test func advantagesLeaveOneOut() {
        let rewards: [Float] = [0.3, -1.25, 70, 0.5, 0.125, -0.75, 1, 0.25]
        func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
        let all = rewards.map(Double.init)
        let distances = all.indices.map { i in all[i] - mean(all.indices.filter { $0 != i }.map { all[$0] }) }
        let expected = all.indices.map { i in
            distances[i] / mean(all.indices.filter { $0 != i }.map { distances[$0] * distances[$0] }).squareRoot()
        }.map { min(max($0, -5), 5) }
        #expect(expected[2] == 5)
        let found = DetailedBalanceKL.advantages(rewards)
        for (one, other) in zip(found, expected) { #expect(abs(Double(one) - other) < 1e-6) }
        // One that does not count changes nothing, and two are too few.
        #expect(DetailedBalanceKL.advantages(rewards + [.nan]) == found + [0])
        #expect(DetailedBalanceKL.advantages([1, 2, .nan]) == [0, 0, 0])
    }

    @Test func seedsAreDistinctAndStable() {
        let seeds = Seeds(3)
        let many =
            (0..<50).flatMap { epoch in (0..<200).map { seeds(.rollout, epoch: epoch, index: $0) } } + seeds.batch(.prompt, count: 200)
        #expect(Set(many).count == many.count)
        #expect(seeds(.rollout, epoch: 1, index: 2) == Seeds(3)(.rollout, epoch: 1, index: 2))
        #expect(seeds(.rollout) != Seeds(4)(.rollout))
        #expect(seeds.permutation(.shuffle, epoch: 0, count: 64).sorted() == Array(0..<64))
        #expect(seeds.permutation(.shuffle, epoch: 0, count: 64) != seeds.permutation(.shuffle, epoch: 1, count: 64))
    }
}

/// A network that is never evaluated.
struct NoFlow: FlowNetwork {
    let parameters: [(name: String, tensor: Tensor)] = []
    func callAsFunction(_ x: Tensor, times: Tensor, context: Tensor?) -> Tensor { x }
}
