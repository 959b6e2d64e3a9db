/// Resizing of uint8 RGB images with the same result as Pillow's `resize(size, BICUBIC)`, to the bit.
///
/// It antialiases, first along rows and then along columns, with
/// coefficients in fixed point and rounding to a byte in between.
struct BicubicFilter {
    /// The input pixels that one output pixel is made of, along one axis.
    private struct Window {
        let start: Int
        let coefficients: [Int32]
    }

    /// The number of bits after the point. Of 32 bits, 8 are for the byte and 2 for sums that overshoot.
    private static let precision = 32 - 8 - 2

    private let width: Int
    private let columns: [Window]
    private let rows: [Window]

    /// Computes the coefficients for a pair of sizes in pixels, each at least 1.
    init(from: (height: Int, width: Int), to: (height: Int, width: Int)) {
        width = to.width
        columns = Self.windows(from: from.width, to: to.width)
        rows = Self.windows(from: from.height, to: to.height)
    }

    /// Keys' cubic convolution with a = -1/2 (Keys 1981).
    private static func weight(_ x: Double) -> Double {
        let a = -0.5
        let x = abs(x)
        if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
        return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0
    }

    private static func windows(from: Int, to: Int) -> [Window] {
        let scale = Double(from) / Double(to)
        let filterScale = max(scale, 1)
        let support = 2 * filterScale
        return (0..<to).map { index in
            let center = (Double(index) + 0.5) * scale
            let start = max(0, Int(center - support + 0.5))
            let end = min(from, Int(center + support + 0.5))
            let weights = (start..<end).map { weight((Double($0) - center + 0.5) / filterScale) }
            let sum = weights.reduce(0, +)
            let coefficients = weights.map { weight -> Int32 in
                let scaled = weight / sum * Double(1 << precision)
                return Int32(scaled < 0 ? scaled - 0.5 : scaled + 0.5)
            }
            return Window(start: start, coefficients: coefficients)
        }
    }

    /// Resizes an image.
    /// - Parameter source: returns row y of the image, `[width, 3]`.
    /// - Returns: the new image `[height, width, 3]`.
    func apply(_ source: (Int) -> UnsafeRawBufferPointer) -> [UInt8] {
        let half = Int32(1) << (Self.precision - 1)
        func byte(_ sum: Int32) -> UInt8 { UInt8(clamping: sum >> Int32(Self.precision)) }
        let first = rows[0].start
        let last = rows[rows.count - 1].start + rows[rows.count - 1].coefficients.count
        let rowBytes = width * 3
        var narrow = [UInt8](repeating: 0, count: (last - first) * rowBytes)
        narrow.withUnsafeMutableBufferPointer { narrow in
            for y in first..<last {
                let row = source(y)
                var target = (y - first) * rowBytes
                for window in columns {
                    var red = half
                    var green = half
                    var blue = half
                    var index = window.start * 3
                    for coefficient in window.coefficients {
                        red &+= Int32(row[index]) &* coefficient
                        green &+= Int32(row[index + 1]) &* coefficient
                        blue &+= Int32(row[index + 2]) &* coefficient
                        index += 3
                    }
                    narrow[target] = byte(red)
                    narrow[target + 1] = byte(green)
                    narrow[target + 2] = byte(blue)
                    target += 3
                }
            }
        }
        var result = [UInt8](repeating: 0, count: rows.count * rowBytes)
        var sums = [Int32](repeating: half, count: rowBytes)
        for (y, window) in rows.enumerated() {
            for index in sums.indices { sums[index] = half }
            for (offset, coefficient) in window.coefficients.enumerated() {
                let start = (window.start - first + offset) * rowBytes
                for index in 0..<rowBytes { sums[index] &+= Int32(narrow[start + index]) &* coefficient }
            }
            for index in 0..<rowBytes { result[y * rowBytes + index] = byte(sums[index]) }
        }
        return result
    }
}
