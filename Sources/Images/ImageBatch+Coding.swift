import Foundation

extension ImageBatch: Codable {
    private enum CodingKeys: CodingKey { case pixels, count, height, width }

    /// Writes sizes and pixels.
    /// - Throws: an error of the encoder.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(withUnsafeBytes { Data($0) }, forKey: .pixels)
        try container.encode(count, forKey: .count)
        try container.encode(height, forKey: .height)
        try container.encode(width, forKey: .width)
    }

    /// Reads a batch that owns its pixels.
    /// - Throws: `ImageError` if they do not fill the sizes, or an error of the decoder.
    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        try self.init(
            pixels: Array(container.decode(Data.self, forKey: .pixels)), count: container.decode(Int.self, forKey: .count),
            height: container.decode(Int.self, forKey: .height), width: container.decode(Int.self, forKey: .width))
    }
}
