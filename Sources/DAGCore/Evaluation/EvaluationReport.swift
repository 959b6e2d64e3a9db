import Foundation
import Images
import Rewards
import Support

/// What the exact sampler of p_base(x) exp(beta s(x)) would give for each beta, beside the pretrained model
/// and, after training, a LoRA.
package struct EvaluationReport {
    /// A sampler: its images and all numbers of them.
    package struct Column {
        /// The name in tables.
        package let name: String
        /// The images, with their weights if it is a reference.
        package let images: WeightedImages
        /// The numbers by their keys, in the order of tables.
        package fileprivate(set) var numbers: [(key: String, value: Estimate)]
        /// A line that says why a reference cannot be relied on; nil: it can.
        package fileprivate(set) var warning: String?

        /// Returns a number; nil if there is none of this key.
        package subscript(key: String) -> Estimate? { numbers.first { $0.key == key }?.value }
    }

    /// The pretrained model.
    package private(set) var base: Column
    /// The references, one for each beta.
    package let references: [Column]
    /// The LoRA; nil if there is none.
    package let lora: Column?
    /// Reward against diversity of references from beta 0 to the largest.
    package let curve: [(diversity: Double, reward: Double)]
    /// Lines about images without scores and about references that cannot be relied on.
    package let warnings: [String]

    /// Effective images that a reference needs: of a prompt, or the normalisation within it biases all means
    /// by a tenth of a standard deviation; and in all, or their error is not known either.
    static let leastOfPrompt = 10.0
    static let leastInAll = 30.0

    /// Computes all numbers.
    /// - Parameters:
    ///   - base: images of the pretrained model.
    ///   - lora: images of a LoRA for the same prompts and seeds.
    ///   - evaluator: the one that scored them.
    /// - Throws: `RewardError` if there are not two images of any prompt that have a score; `TensorError` if a distance of
    ///   features cannot be computed.
    package init(base: ScoredImages, lora: ScoredImages?, betas: [Double], evaluator: RewardEvaluator, modes: Modes?) throws {
        let (prompts, gaps) = try Self.countedPrompts([base] + (lora.map { [$0] } ?? []))
        func weighted(_ images: ScoredImages, beta: Double) -> WeightedImages {
            WeightedImages(images, beta: beta, prompts: prompts, evaluator: evaluator, modes: modes)
        }
        self.base = Column(name: "pretrained", images: weighted(base, beta: 0))
        let features = self.base.images.featureDistribution()
        func frechetDistance(_ images: WeightedImages) throws -> [(key: String, value: Estimate)] {
            guard let features, let others = images.featureDistribution() else { return [] }
            return [("frechet_distance", Estimate(try features.frechetDistance(to: others)))]
        }
        // Images of a prompt take turns, so that both halves have all prompts.
        if let one = self.base.images.featureDistribution(where: { $0 % 2 == 0 }),
            let other = self.base.images.featureDistribution(where: { $0 % 2 == 1 })
        {
            self.base.numbers.append(("frechet_distance_of_halves", Estimate(try one.frechetDistance(to: other))))
        }
        var own = lora.map { Column(name: "LoRA", images: weighted($0, beta: 0)) }
        if let images = own?.images {
            own?.numbers.append(("base_kl", images.pathDivergence))
            own?.numbers += try frechetDistance(images)
        }
        self.lora = own
        references = try betas.map { beta in
            let images = weighted(base, beta: beta)
            var column = Column(name: "beta \(beta.shortText)", images: images)
            column.numbers += try frechetDistance(images)
            column.numbers += [
                ("effective_images", Estimate(images.effectiveImages)), ("effective_share", Estimate(images.effectiveShare)),
                ("base_kl", images.divergence), ("log_z", images.logZ),
            ]
            if let own {
                if let variation = own.images.totalVariation(to: images) {
                    column.numbers.append(("lora_total_variation", variation.distance))
                    column.numbers.append(("lora_total_variation_by_chance", Estimate(variation.byChance)))
                }
                column.numbers.append(("lora_kl_to_target", own.images.divergence(from: images)))
            }
            column.warning = Self.warning(images)
            return column
        }
        let largest = betas.max() ?? 0
        curve = (0...24).map { step in
            let images = weighted(base, beta: largest * pow(Double(step) / 24, 3))
            return (images.diversity.value, images.reward.value)
        }
        warnings = gaps + references.compactMap(\.warning)
    }

    /// Finds the prompts with two images or more that have a score, by every sampler.
    /// - Returns: the prompts in order, and lines about images without scores.
    private static func countedPrompts(_ samplers: [ScoredImages]) throws -> (prompts: [Prompt], gaps: [String]) {
        var seen: Set<Prompt> = []
        let all = samplers[0].prompts.filter { seen.insert($0).inserted }
        var counted = all
        var gaps: [String] = []
        for images in samplers {
            let scored = images.prompts.indices.filter { !images.report.reward[$0].isNaN }
            let counts = Dictionary(scored.map { (images.prompts[$0], 1) }, uniquingKeysWith: +)
            counted.removeAll { counts[$0, default: 0] < 2 }
            if let failure = images.report.firstFailure {
                let what = shortfall(
                    dropped: images.prompts.count - scored.count, of: "\(images.prompts.count) images", imputed: images.report.imputed)
                gaps.append("\(what): \(failure)")
            }
        }
        if counted.isEmpty {
            throw RewardError("no prompt has two images with a score: \(gaps.first ?? "draw more images of each")")
        }
        if counted.count < all.count {
            gaps.append("\(all.count - counted.count) of \(all.count) prompts have fewer than two images with a score and are left out")
        }
        return (counted, gaps)
    }

    /// Says that the weights are too uneven, or the images too few, to tell.
    private static func warning(_ images: WeightedImages) -> String? {
        let effective = images.effectiveImages
        let ofPrompt = effective / Double(images.weights.count)
        let lack = max(leastOfPrompt / ofPrompt, leastInAll / effective)
        guard lack > 1 else { return nil }
        let count = images.weights.reduce(0) { $0 + $1.count }
        let needed = (lack * Double(count) / Double(images.weights.count)).rounded(.up)
        return String(
            format: """
                beta %@ is too uneven to tell: by their weights %d images are worth %.1f, %.1f a prompt, \
                of %.0f that it takes (%.0f in all); draw about %.0f of each prompt, or more, or lower beta
                """, images.beta.shortText, count, effective, ofPrompt, leastOfPrompt, leastInAll, needed)
    }

    /// All columns, in the order of tables.
    package var columns: [Column] { [base] + references + (lora.map { [$0] } ?? []) }

    /// Keys of all numbers, in the order of tables.
    package var keys: [String] {
        var seen: Set<String> = []
        let all = columns.flatMap { $0.numbers.map(\.key) }.filter { seen.insert($0).inserted }
        // Objectives last: some rewards have many.
        return all.filter { !$0.hasPrefix("reward/") } + all.filter { $0.hasPrefix("reward/") }
    }
}

extension EvaluationReport.Column {
    fileprivate init(name: String, images: WeightedImages) {
        self.name = name
        self.images = images
        numbers = [("reward", images.reward), ("diversity", images.diversity)]
        if let diversity = images.featureDiversity { numbers.append(("feature_diversity", diversity)) }
        numbers += (images.shares ?? []).map { ("mode/" + $0.name, $0.share) }
        if let entropy = images.modeEntropy { numbers.append(("mode_entropy", entropy)) }
        numbers += images.objectives.map { ("reward/" + $0.name, $0.mean) }
    }
}

// MARK: Files

extension EvaluationReport {
    /// Returns all numbers as JSON with sorted keys.
    /// - Parameter configuration: the settings that the images were drawn with.
    /// - Throws: an error of `JSONSerialization`.
    package func json(_ configuration: TrainingConfiguration) throws -> Data {
        let keys = Set((SettingGroup.subject.settings + SettingGroup.sampling.settings).map(\.key))
        let settings = try JSONSerialization.jsonObject(with: Data(configuration.json().utf8)) as? [String: Any] ?? [:]
        var object: [String: Any] = [
            "version": DAGVersion.text, "settings": settings.filter { keys.contains($0.key) }, "images": base.images.scored.prompts.count,
            "prompt_count": base.images.weights.count, "base": base.json,
            "reference": references.map { column in
                column.json.merging(["beta": column.images.beta, "is_reliable": column.warning == nil]) { $1 }
            }, "warnings": warnings,
        ]
        object["lora"] = lora?.json
        object["features"] = base.images.scored.features?.network
        return try JSONSerialization.data(withJSONObject: object, options: [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes])
            + Data("\n".utf8)
    }

    /// All numbers as CSV, one a line.
    package var csv: String {
        var lines = ["sampler,beta,measure,value,standard_error"]
        func add(_ sampler: String, _ beta: String, _ column: Column) {
            for (key, estimate) in column.numbers {
                let error = estimate.standardError.map { "\($0)" } ?? ""
                lines.append("\(sampler),\(beta),\(key),\(estimate.value),\(error)")
            }
        }
        add("base", "0", base)
        for column in references { add("reference", column.images.beta.shortText, column) }
        if let lora { add("lora", "", lora) }
        return lines.joined(separator: "\n") + "\n"
    }

    /// Chooses images to look at, one or several of each prompt: of the pretrained model, of each reference,
    /// drawn in proportion to its weights, and of the LoRA.
    /// - Parameter most: the most images of a sampler.
    /// - Returns: images by the columns' order, of the same prompts in the same places; where a sampler is no
    ///   reference also of the same seeds.
    /// - Throws: `ImageError`.
    package func sheets(_ most: Int) throws -> [ImageBatch] {
        let groups = base.images.groups
        let shown = groups.count < most ? Array(groups.indices) : (0..<most).map { $0 * groups.count / most }
        let each = min(most / shown.count, groups.map(\.count).min() ?? 1)
        return try columns.map { column in
            let isReference = references.contains { $0.name == column.name }
            let places = shown.flatMap { group -> [Int] in
                guard isReference else { return Array(groups[group].prefix(each)) }
                // Multiples of the golden ratio are spread evenly.
                let offset = (Double(group) * 0.618_033_988_749_895).truncatingRemainder(dividingBy: 1)
                return column.images.weights[group].resampled(each, offset: offset).map { groups[group][$0] }
            }
            return try column.images.scored.images.picking(places)
        }
    }
}

extension EvaluationReport.Column {
    fileprivate var json: [String: Any] {
        // JSON has no NaN.
        func number(_ value: Double) -> Any { value.isFinite ? value : NSNull() }
        return Dictionary(
            uniqueKeysWithValues: numbers.map { key, estimate in
                let value = number(estimate.value)
                return (key, estimate.standardError.map { ["value": value, "standard_error": number($0)] } ?? value)
            })
    }
}
