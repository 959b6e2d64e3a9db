import Foundation
import Images
import Support

/// The sheets that show what becomes of the same prompts and seeds in training: samples/epoch-N.png.
enum SampleSheet {
    /// Numbers of images, and of images in a row.
    static let count = 16, columns = 4

    /// A line of samples/prompts.jsonl.
    private struct Entry: Encodable {
        let prompt: String
        let seed: UInt64
    }

    /// Returns samples/prompts.jsonl: what the images of every sheet are drawn from, in their order.
    /// - Throws: `EncodingError`.
    static func list(_ prompts: [Prompt], _ seeds: [UInt64]) throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return try Data(zip(prompts, seeds).map { try encoder.encode(Entry(prompt: $0.text, seed: $1)) + Data("\n".utf8) }.joined())
    }

    /// The images of a sheet as large as fits a page, one beside the other without a gap.
    struct Tiles {
        /// Height and width that an image may have, pixels.
        private static let side = 160

        /// Of an image, pixels.
        let height, width: Int
        /// A JPEG file.
        let jpeg: Data

        /// Reads a sheet.
        /// - Throws: `ImageError` or `OutputError` that names the file.
        init(_ sheet: URL) throws {
            let image = try ImageFile.read(sheet.path)
            let images: ImageBatch
            do { images = try ImageGrid.tiles(of: image, columns: columns, count: count).reduced(toFit: Self.side) } catch {
                throw OutputError("\(sheet.path): \(String(describing: error))")
            }
            height = images.height
            width = images.width
            jpeg = try JPEG.encode(ImageGrid.compose(images, columns: columns, padding: 0), quality: 85)
        }
    }
}
