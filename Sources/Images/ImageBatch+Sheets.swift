import Foundation

extension ImageBatch {
    /// Joins batches of images of one size, in order.
    /// - Throws: `ImageError` if there are no batches or their sizes differ.
    package init(concatenating parts: [ImageBatch]) throws {
        guard let first = parts.first, parts.allSatisfy({ $0.height == first.height && $0.width == first.width }) else {
            throw ImageError("batches of images of different sizes cannot be joined")
        }
        let count = parts.reduce(0) { $0 + $1.count }
        var pixels: [UInt8] = []
        pixels.reserveCapacity(count * first.bytesPerImage)
        for part in parts { part.withUnsafeBytes { pixels.append(contentsOf: $0) } }
        try self.init(pixels: pixels, count: count, height: first.height, width: first.width)
    }

    /// Writes the images as one PNG: a single image as it is,
    /// several as a sheet in which small ones are enlarged.
    /// - Parameter columns: the number of images in a row.
    /// - Throws: `ImageError` if the file cannot be written.
    package func writeSheet(columns: Int, to file: URL) throws {
        guard count > 1 else { return try PNG.write(self, to: file.path) }
        let enlargement = max(1, 96 / max(height, width))
        try PNG.write(ImageGrid.compose(self, columns: columns, scale: enlargement), to: file.path)
    }
}
