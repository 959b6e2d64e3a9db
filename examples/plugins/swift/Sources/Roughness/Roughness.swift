/// The class that the plugin consists of.
typealias TheReward = Roughness

/// How rough an image is: the mean difference between neighbouring pixels' grey values (anisotropic total variation), 0 to 1. Noise
/// is rough, a smooth image is not, so less is better.
final class Roughness: PluginReward {
    static let description = RewardDescription(
        name: "roughness", version: "1.0.0", detail: "mean difference between neighbouring pixels", license: "Apache-2.0",
        source: "Rudin, Osher and Fatemi 1992, doi:10.1016/0167-2789(92)90242-F",
        objectives: [.init("roughness", .minimize, detail: "0 to 1; a plain picture has 0")],
        options: [.init("threshold", default: "0", detail: "differences up to this do not count, 0 to 1")])

    private let threshold: Float
    /// Grey values of the current image; kept from one to the next, since calls into an instance do not overlap.
    private var grey: [Float] = []

    init(options: [String: String]) throws {
        let text = options["threshold"] ?? ""
        guard let threshold = Float(text), (0...1).contains(threshold) else {
            throw RewardFailure.invalid("threshold=\(text) is not a number from 0 to 1")
        }
        self.threshold = threshold
    }

    func score(_ sample: Sample) throws -> [Float] {
        let (height, width) = (sample.picture.height, sample.picture.width)
        grey.removeAll(keepingCapacity: true)
        for y in 0..<height {
            for x in 0..<width {
                let (red, green, blue) = sample.picture[y, x]
                grey.append((0.299 * Float(red) + 0.587 * Float(green) + 0.114 * Float(blue)) / 255)
            }
        }
        var sum = 0.0
        func compare(_ one: Int, _ other: Int) {
            let difference = abs(grey[one] - grey[other])
            if difference > threshold { sum += Double(difference) }
        }
        for y in 0..<height {
            for x in 0..<width {
                let here = y * width + x
                if x + 1 < width { compare(here, here + 1) }
                if y + 1 < height { compare(here, here + width) }
            }
        }
        let pairs = height * (width - 1) + (height - 1) * width
        return [Float(sum / Double(max(1, pairs)))]
    }
}
