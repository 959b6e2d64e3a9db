extension ImageBatch {
    /// Measures how much images differ: the root of the mean squared difference
    /// between the pixels of two thumbnails of 8 x 8 pixels, where black is 0
    /// and white is 1. The result is 0 if no two images can be compared.
    /// - Parameter groups: the group of each image. Only images of the same group are compared.
    package func diversity(groups: [some Hashable]) -> Double {
        let thumbnails = (0..<count).map(thumbnail)
        var squares = 0.0
        var pairs = 0
        for members in Dictionary(grouping: 0..<count, by: { groups[$0] }).values where members.count > 1 {
            // The mean squared difference between two images is twice the unbiased variance.
            for place in thumbnails[0].indices {
                let values = members.map { thumbnails[$0][place] }
                let mean = values.reduce(0, +) / Double(values.count)
                squares += values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
            }
            pairs += members.count - 1
        }
        return pairs == 0 ? 0 : (2 * squares / Double(pairs * thumbnails[0].count)).squareRoot()
    }

    /// Returns the mean absolute difference between the pixels of two batches of one shape, 0 to 255.
    package func difference(from other: ImageBatch) -> Double {
        withUnsafeBytes { a in
            other.withUnsafeBytes { b in Double(zip(a, b).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) }) / Double(a.count) }
        }
    }

    /// Returns means over blocks, [rows, columns, 3] in 0...1:
    /// 8 rows and columns, or fewer if the image has fewer.
    package func thumbnail(_ index: Int) -> [Double] { blockMeans(index, rows: min(8, height), columns: min(8, width)).map { $0 / 255 } }
}
