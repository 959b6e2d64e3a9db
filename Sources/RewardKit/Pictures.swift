import Tensors

/// Pictures of a batch, in the host's memory: uint8 RGB.
public struct Pictures {
    /// How many, and their size in pixels.
    public let count, height, width: Int
    private let base: UnsafeRawPointer
    private let pictureStride, rowStride: Int

    /// - Parameters: where the first picture begins, and bytes from one picture and one row to the next.
    public init(base: UnsafeRawPointer, count: Int, height: Int, width: Int, pictureStride: Int, rowStride: Int) {
        (self.base, self.count, self.height, self.width) = (base, count, height, width)
        (self.pictureStride, self.rowStride) = (pictureStride, rowStride)
    }

    /// A run of them.
    func part(_ range: Range<Int>) -> Pictures {
        Pictures(
            base: base + range.lowerBound * pictureStride, count: range.count, height: height, width: width, pictureStride: pictureStride,
            rowStride: rowStride)
    }

    /// Bytes of row `y` of picture `n`, `[width, 3]`.
    func row(_ n: Int, _ y: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: base + n * pictureStride + y * rowStride, count: width * 3)
    }

    /// Mean and deviation of each channel that CLIP was trained with.
    private static let mean: [Float] = [0.48145466, 0.4578275, 0.40821073]
    private static let deviation: [Float] = [0.26862954, 0.26130258, 0.27577711]

    /// The pictures as float32 `[count, 3, height, width]` in [0, 1].
    private var tensor: Tensor {
        var values = [Float](repeating: 0, count: count * 3 * height * width)
        for n in 0..<count {
            for y in 0..<height {
                let row = row(n, y)
                for channel in 0..<3 {
                    let target = ((n * 3 + channel) * height + y) * width
                    for x in 0..<width { values[target + x] = Float(row[x * 3 + channel]) / 255 }
                }
            }
        }
        return Tensor(values, shape: [count, 3, height, width])
    }

    /// HPSv2's preprocessing, float32 `[count, 3, size, size]`: numbers in [0, 1], the *long* side to `size` by torchvision's bicubic filter on
    /// tensors (antialiased, neither rounded nor clamped), black at both sides of the short one, normalised by CLIP's mean and deviation.
    /// Source: hpsv2's open_clip/transform.py with `light_augmentation`, which sets `resize_longest_max`.
    public func longSideInput(size: Int) -> Tensor {
        let scale = Double(size) / Double(max(height, width))
        func scaled(_ side: Int) -> Int { max(1, Int((Double(side) * scale).rounded(.toNearestOrEven))) }
        let (newHeight, newWidth) = (scaled(height), scaled(width))
        let resized = (newHeight, newWidth) == (height, width) ? tensor : tensor.resizeBicubic(height: newHeight, width: newWidth)
        let (top, left) = ((size - newHeight) / 2, (size - newWidth) / 2)
        let images = resized.pad([left, size - newWidth - left, top, size - newHeight - top])
        let mean = Tensor(Self.mean, shape: [1, 3, 1, 1])
        return (images - mean) / Tensor(Self.deviation, shape: [1, 3, 1, 1])
    }

    /// CLIP's preprocessing, float32 `[count, 3, size, size]`: the short side to `size` by Pillow's bicubic filter, centre crop, [0, 1], normalised by CLIP's mean
    /// and deviation. As torchvision's `Resize(size, BICUBIC), CenterCrop(size), ToTensor(), Normalize(...)` on a Pillow picture, to the bit
    /// until the last step. It is what clip, open_clip and ImageReward do.
    /// - Parameter cropOffset: how torchvision rounds half a pixel; transformers' `CLIPProcessor`, which is the same otherwise, rounds `.down`.
    public func clipInput(size: Int, cropOffset: FloatingPointRoundingRule = .toNearestOrEven) -> Tensor {
        let short = min(height, width)
        // The long side is rounded down.
        let (newHeight, newWidth) = (height == short ? size : height * size / short, width == short ? size : width * size / short)
        let top = Int((Double(newHeight - size) / 2).rounded(cropOffset))
        let left = Int((Double(newWidth - size) / 2).rounded(cropOffset))
        let filter = BicubicFilter(from: (height, width), to: (newHeight, newWidth))
        // Of 256 values there are only so many results.
        let table = zip(Self.mean, Self.deviation).map { mean, deviation in (0...255).map { (Float($0) / 255 - mean) / deviation } }
        var values = [Float](repeating: 0, count: count * 3 * size * size)
        for n in 0..<count {
            let resized = filter.apply { row(n, $0) }
            for y in 0..<size {
                for x in 0..<size {
                    let source = ((top + y) * newWidth + left + x) * 3
                    for channel in 0..<3 {
                        values[((n * 3 + channel) * size + y) * size + x] = table[channel][Int(resized[source + channel])]
                    }
                }
            }
        }
        return Tensor(values, shape: [count, 3, size, size])
    }
}
