import Foundation
import Images
import Rewards
import Support

/// Scored images under weights exp(beta s) that add up to 1 within each prompt: self-normalised importance
/// sampling of the density q(x) exp(beta s(x)) / Z of each prompt, where q is what the images were drawn
/// from.
///
/// With beta 0 they are the images of their own sampler. All numbers are means over prompts.
package struct WeightedImages {
    /// The images.
    package let scored: ScoredImages
    /// beta in the weights.
    package let beta: Double
    /// Places of the images of each prompt that is counted.
    let groups: [[Int]]
    /// The weights of each group.
    package let weights: [ImportanceWeights]
    private let evaluator: RewardEvaluator
    private let modes: Modes?
    /// Each image's mode; nil for an image without scores.
    private let assigned: [Int?]

    /// Weighs images.
    /// - Parameters:
    ///   - prompts: those that are counted, each with two images or more that have a score.
    ///   - evaluator: the one that scored them.
    package init(_ scored: ScoredImages, beta: Double, prompts: [Prompt], evaluator: RewardEvaluator, modes: Modes?) {
        self.scored = scored
        self.beta = beta
        self.evaluator = evaluator
        self.modes = modes
        assigned = modes?.assign(scored.report.objectives) ?? []
        let places = Dictionary(grouping: scored.prompts.indices) { scored.prompts[$0] }
        groups = prompts.map { (places[$0] ?? []).filter { !scored.report.reward[$0].isNaN } }
        weights = groups.map { group in ImportanceWeights(logWeights: group.map { beta * Double(scored.report.reward[$0]) }) }
    }

    /// Averages over prompts a number that each prompt's weighted images have.
    private func average(_ part: (_ group: [Int], _ weights: ImportanceWeights) -> Estimate.Part) -> Estimate {
        Estimate(averaging: zip(groups, weights).map(part))
    }

    /// Estimates the mean of a number of each image [N]; images for which it is NaN are left out.
    func mean(_ values: [Double]) -> Estimate {
        average { group, weights in
            let kept = zip(group, weights.corrected).filter { !values[$0.0].isNaN }
            let sum = kept.reduce(0) { $0 + $1.1 }
            let mean = kept.reduce(0) { $0 + $1.1 * values[$1.0] } / sum
            return Estimate.Part(
                value: mean, influences: kept.map { place, weight in Double(kept.count) * weight / sum * (values[place] - mean) })
        }
    }

    // MARK: The weights

    /// Effective number of images, of all prompts together.
    package var effectiveImages: Double { weights.reduce(0) { $0 + $1.effectiveCount } }

    /// Effective number of images as a part of the images, mean over prompts.
    package var effectiveShare: Double { weights.reduce(0) { $0 + $1.effectiveCount / Double($1.count) } / Double(weights.count) }

    /// log Z = log of the mean of exp(beta s) under the images' own density.
    package var logZ: Estimate {
        average { _, weights in
            Estimate.Part(value: weights.logZ, influences: weights.weights.map { Double(weights.count) * $0 - 1 })
        }
    }

    /// KL(target || images' own density), nats.
    package var divergence: Estimate {
        average { _, weights in
            let ratios = weights.weights.map { Double(weights.count) * $0 }
            let logs = ratios.map { $0 > 0 ? log($0) : 0 }
            let mean = zip(weights.weights, logs).reduce(0) { $0 + $1.0 * $1.1 }
            return Estimate.Part(value: weights.divergence, influences: zip(ratios, logs).map { $0 * ($1 - mean - 1) + 1 })
        }
    }

    // MARK: The images

    /// Mean of the trained score, without normalisation.
    package var reward: Estimate { mean(evaluator.total(scored.report.objectives)) }

    /// Mean of each objective of each reward.
    package var objectives: [(name: String, mean: Estimate)] {
        scored.report.objectives.map { ($0.name, mean($0.scores.map(Double.init))) }
    }

    /// How much images of the same prompt differ: `ImageBatch.diversity`, of the weighted images.
    package var diversity: Estimate {
        let square = meanSquaredDistance(scored.thumbnails)
        func perNumber(_ x: Double) -> Double { x / Double(scored.thumbnails[0].count) }
        let diversity = perNumber(square.value).squareRoot()
        return Estimate(diversity, standardError: square.standardError.map { perNumber($0) / (2 * diversity) })
    }

    /// Mean cosine distance 1 - cos of the features of two images of the same prompt; nil without features.
    package var featureDiversity: Estimate? {
        scored.features.map { features in
            // Of vectors of length one, half the squared distance is the cosine distance.
            let square = meanSquaredDistance(features.directions)
            return Estimate(square.value / 2, standardError: square.standardError.map { $0 / 2 })
        }
    }

    /// Estimates the mean squared distance of two different images of the same prompt, each drawn by its weight.
    /// - Parameter vectors: one for each image, of one length.
    private func meanSquaredDistance(_ vectors: [[Double]]) -> Estimate {
        average { group, weights in
            let size = vectors[group[0]].count
            var mean = [Double](repeating: 0, count: size)
            for (image, weight) in zip(group, weights.weights) {
                for place in 0..<size { mean[place] += weight * vectors[image][place] }
            }
            let distances = group.map { image in
                (0..<size).reduce(0.0) { sum, place in
                    let difference = vectors[image][place] - mean[place]
                    return sum + difference * difference
                }
            }
            // Twice the variance, without the pairs of an image with itself; unknown if one image has all
            // weight.
            let pairs = 1 - 1 / weights.effectiveCount
            let factor = pairs > 1e-9 ? 2 / pairs : .nan
            let variance = zip(distances, weights.weights).reduce(0) { $0 + $1.0 * $1.1 }
            return Estimate.Part(
                value: factor * variance,
                influences: zip(distances, weights.weights).map { factor * Double(weights.count) * $1 * ($0 - variance) })
        }
    }

    /// Mean and covariance of the features of all images, where each prompt counts the same; nil without features.
    /// - Parameter isCounted: whether an image counts, by its place in its prompt's.
    func featureDistribution(where isCounted: (_ place: Int) -> Bool = { _ in true }) -> FeatureDistribution? {
        scored.features.map { features in
            var vectors: [[Double]] = []
            var shares: [Double] = []
            for (group, weights) in zip(groups, weights) {
                let counted = group.indices.filter(isCounted)
                let sum = counted.reduce(0) { $0 + weights.weights[$1] } * Double(groups.count)
                vectors += counted.map { features.vectors[group[$0]] }
                shares += counted.map { weights.weights[$0] / sum }
            }
            return FeatureDistribution(vectors, weights: shares)
        }
    }

    /// Shares of the modes, in their order; nil if no modes were named.
    package var shares: [(name: String, share: Estimate)]? {
        modes.map { modes in
            modes.names.enumerated().map { mode, name in (name, mean(assigned.map { $0.map { $0 == mode ? 1 : 0 } ?? .nan })) }
        }
    }

    /// Entropy of the shares that the named modes, without `other`, have of their sum, nats; nil if no modes
    /// were named.
    package var modeEntropy: Estimate? {
        guard let shares else { return nil }
        let named = shares.dropLast().map(\.share.value)
        let sum = named.reduce(0, +)
        let entropy = named.reduce(0) { $1 > 0 ? $0 - $1 / sum * log($1 / sum) : $0 }
        // The change of the entropy with an image of each mode, to first order.
        let changes = named.map { $0 > 0 ? (-log($0 / sum) - entropy) / sum : 0 } + [0]
        return Estimate(sum > 0 ? entropy : .nan, standardError: mean(assigned.map { $0.map { changes[$0] } ?? .nan }).standardError)
    }

    // MARK: Distances to others

    /// Total variation between the modes' shares of these images and of others: half the sum of absolute
    /// differences.
    /// - Returns: the distance, and the mean distance of two samplers that are equal, by chance alone.
    package func totalVariation(to other: WeightedImages) -> (distance: Estimate, byChance: Double)? {
        guard let own = shares, let others = other.shares else { return nil }
        let differences = zip(own, others).map { $0.share.value - $1.share.value }
        func deviation(_ images: WeightedImages) -> Estimate {
            images.mean(images.assigned.map { $0.map { differences[$0] < 0 ? -0.5 : 0.5 } ?? .nan })
        }
        let error = (deviation(self) + deviation(other)).standardError
        let chance = zip(own, others).reduce(0) { $0 + hypot($1.0.share.standardError ?? 0, $1.1.share.standardError ?? 0) }
        return (
            Estimate(differences.reduce(0) { $0 + abs($1) } / 2, standardError: error), chance * (2 / Double.pi).squareRoot() / 2
        )
    }

    /// KL(P_theta || P_base) along the trajectories, nats.
    package var pathDivergence: Estimate { mean(scored.divergences) }

    /// KL(P_theta || target) along the trajectories of these images, nats: E[log P_theta / P_base - beta s] +
    /// log Z. That of the images alone is no larger.
    /// - Parameter reference: images of the pretrained model under the target's weights.
    package func divergence(from reference: WeightedImages) -> Estimate {
        mean(zip(scored.divergences, scored.report.reward).map { $0 - reference.beta * Double($1) }) + reference.logZ
    }
}
