extension ImageBatch {
    /// Returns the images no larger than `side` pixels in either direction, in their proportions: means over
    /// blocks. Images that are small enough stay as they are.
    /// - Parameter side: pixels, at least 1.
    /// - Throws: `ImageError` as `init(pixels:count:height:width:)`.
    package func reduced(toFit side: Int) throws -> ImageBatch {
        let longest = max(height, width)
        guard longest > side else { return self }
        let rows = max(1, height * side / longest)
        let columns = max(1, width * side / longest)
        let pixels = (0..<count).flatMap { blockMeans($0, rows: rows, columns: columns).map { UInt8($0.rounded()) } }
        return try ImageBatch(pixels: pixels, count: count, height: rows, width: columns)
    }

    /// Returns the means over blocks of image `index`, [rows, columns, 3] in 0...255.
    /// - Parameters:
    ///   - rows: at most the height.
    ///   - columns: at most the width.
    func blockMeans(_ index: Int, rows: Int, columns: Int) -> [Double] {
        withUnsafeBytes { bytes in
            let start = index * bytesPerImage
            return (0..<rows).flatMap { row in
                (0..<columns).flatMap { column in
                    (0..<3).map { channel in
                        let ys = row * height / rows..<(row + 1) * height / rows
                        let xs = column * width / columns..<(column + 1) * width / columns
                        let sum = ys.reduce(0) { sum, y in xs.reduce(sum) { $0 + Int(bytes[start + (y * width + $1) * 3 + channel]) } }
                        return Double(sum) / Double(ys.count * xs.count)
                    }
                }
            }
        }
    }
}
