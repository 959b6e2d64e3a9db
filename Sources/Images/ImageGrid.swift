/// Sheets: several images side by side in one.
package enum ImageGrid {
    /// Lays a batch out in rows of `columns` images, white between
    /// them, each pixel repeated `scale` times in both directions.
    ///
    /// - Parameters:
    ///   - columns: the number of images in a row, at least 1; the last row may have fewer.
    ///   - padding: the number of pixels around and between the images, after scaling.
    ///   - scale: the factor of enlargement, for images that are too small to look at.
    /// - Returns: one image of height `rows * (height * scale
    ///   + padding) + padding` and of the corresponding width.
    /// - Throws: `ImageError` if there are no columns, the padding is negative or the scale is below 1.
    package static func compose(_ batch: ImageBatch, columns: Int, padding: Int = 2, scale: Int = 1) throws -> ImageBatch {
        guard columns > 0, padding >= 0, scale > 0 else {
            throw ImageError("a grid of \(columns) columns, padding \(padding) and scale \(scale) cannot be drawn")
        }
        let columns = min(columns, batch.count)
        let rows = (batch.count + columns - 1) / columns
        let cellHeight = batch.height * scale + padding
        let cellWidth = batch.width * scale + padding
        let height = rows * cellHeight + padding
        let width = columns * cellWidth + padding
        var pixels = [UInt8](repeating: 255, count: height * width * 3)
        batch.withUnsafeBytes { bytes in
            for index in 0..<batch.count {
                let top = index / columns * cellHeight + padding
                let left = index % columns * cellWidth + padding
                for y in 0..<batch.height * scale {
                    let source = (index * batch.height + y / scale) * batch.width
                    let target = (top + y) * width + left
                    for x in 0..<batch.width * scale {
                        for channel in 0..<3 { pixels[(target + x) * 3 + channel] = bytes[(source + x / scale) * 3 + channel] }
                    }
                }
            }
        }
        return try ImageBatch(pixels: pixels, count: 1, height: height, width: width)
    }

    /// Takes a sheet of `compose` apart. Images that were enlarged there stay enlarged.
    ///
    /// - Parameters:
    ///   - count: the number of images in the sheet, in rows of `columns`.
    ///   - padding: the number of pixels around and between them.
    /// - Throws: `ImageError` if a sheet of this size cannot hold them.
    package static func tiles(of sheet: ImageBatch, columns: Int, count: Int, padding: Int = 2) throws -> ImageBatch {
        guard columns > 0, count > 0 else { throw ImageError("\(count) images in \(columns) columns are no sheet") }
        let rows = (count + columns - 1) / columns
        let height = (sheet.height - padding) / rows - padding
        let width = (sheet.width - padding) / columns - padding
        guard sheet.count == 1, height > 0, width > 0, (height + padding) * rows + padding == sheet.height,
            (width + padding) * columns + padding == sheet.width
        else { throw ImageError("\(sheet.height) x \(sheet.width) pixels are no sheet of \(rows) rows and \(columns) columns") }
        var pixels: [UInt8] = []
        pixels.reserveCapacity(count * height * width * 3)
        sheet.withUnsafeBytes { bytes in
            for index in 0..<count {
                let top = index / columns * (height + padding) + padding
                let left = index % columns * (width + padding) + padding
                for y in top..<top + height {
                    let start = (y * sheet.width + left) * 3
                    pixels.append(contentsOf: bytes[start..<start + width * 3])
                }
            }
        }
        return try ImageBatch(pixels: pixels, count: count, height: height, width: width)
    }
}
