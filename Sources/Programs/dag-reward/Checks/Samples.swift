import Foundation
import Images
import Rewards
import Support

/// Images and prompts to try rewards with.
enum Samples {
    /// Makes an image `[height, width, 3]` of smooth colours with some noise, a function of the number.
    static func image(_ number: Int, height: Int, width: Int) -> [UInt8] {
        var state = UInt64(number + 1) &* 0x9e37_79b9_7f4a_7c15
        var pixels = [UInt8](repeating: 0, count: height * width * 3)
        for y in 0..<height {
            for x in 0..<width {
                for channel in 0..<3 {
                    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                    let wave = sin(Double(x * (number % 5 + 1) + channel * 40) / 17) + cos(Double(y + number * 13) / 23)
                    pixels[(y * width + x) * 3 + channel] = UInt8(clamping: Int(128 + 50 * wave) + Int(state >> 60))
                }
            }
        }
        return pixels
    }

    /// Makes a batch of images.
    /// - Parameter numbers: of the images, which are also their ids.
    static func batch(_ numbers: some Sequence<Int>, height: Int = 32, width: Int = 32, prompts: [Prompt]? = nil) throws -> RewardBatch {
        let numbers = Array(numbers)
        let ids = numbers.map { UInt64($0) }
        return try RewardBatch(
            images: ImageBatch(
                pixels: numbers.flatMap { image($0, height: height, width: width) }, count: numbers.count, height: height, width: width),
            prompts: prompts ?? numbers.map { "a photo of thing number \($0)" }, sampleIDs: ids, seeds: ids)
    }
}
