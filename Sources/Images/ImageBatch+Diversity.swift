extension ImageBatch {
    /// How much pictures differ: the root of the mean squared difference of two of them, as thumbnails of 8 x 8 pixels, black and white being
    /// 1 apart. 0 if there are no two to compare.
    /// - Parameter groups: [count]; pictures of the same group are compared with each other only.
    public func diversity(groups: [String]) -> Double {
        let thumbnails = (0..<count).map(thumbnail)
        var (squares, pairs) = (0.0, 0)
        for members in Dictionary(grouping: 0..<count, by: { groups[$0] }).values where members.count > 1 {
            // The mean squared difference of two is twice the unbiased variance.
            for place in thumbnails[0].indices {
                let values = members.map { thumbnails[$0][place] }
                let mean = values.reduce(0, +) / Double(values.count)
                squares += values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
            }
            pairs += members.count - 1
        }
        return pairs == 0 ? 0 : (2 * squares / Double(pairs * thumbnails[0].count)).squareRoot()
    }

    /// Means over blocks, [rows, columns, 3] in 0...1; as many rows and columns as there are, up to 8.
    private func thumbnail(_ index: Int) -> [Double] {
        let (rows, columns) = (min(8, height), min(8, width))
        return withUnsafeBytes { bytes in
            let start = index * bytesPerImage
            return (0..<rows).flatMap { row in
                (0..<columns).flatMap { column in
                    (0..<3).map { channel in
                        let (ys, xs) = (
                            row * height / rows..<(row + 1) * height / rows, column * width / columns..<(column + 1) * width / columns
                        )
                        let sum = ys.reduce(0) { sum, y in xs.reduce(sum) { $0 + Int(bytes[start + (y * width + $1) * 3 + channel]) } }
                        return Double(sum) / Double(ys.count * xs.count * 255)
                    }
                }
            }
        }
    }
}
