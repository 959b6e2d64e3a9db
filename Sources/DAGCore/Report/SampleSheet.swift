import Foundation
import Images

/// The sheets that show what becomes of the same prompts and seeds in training: samples/epoch-N.png.
enum SampleSheet {
    /// Numbers of images, and of images in a row.
    static let count = 16, columns = 4

    /// A line of samples/prompts.jsonl: what an image of every sheet is drawn from.
    struct Entry: Encodable {
        let prompt: String
        let seed: UInt64
    }

    /// The images of a sheet as large as fits a page, one beside the other without a gap.
    struct Tiles {
        /// Height and width that an image may have, pixels.
        private static let side = 160

        /// Of an image, pixels.
        let height, width: Int
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
