import Tensors

/// Seeds of all random numbers: each is a function of the run's seed, a purpose, the epoch and an index.
///
/// So there is no generator state to save, a resumed run draws the same numbers as an uninterrupted one, and
/// a trajectory's noise does not depend on the batch that it is computed in.
package struct Seeds: Sendable {
    /// The purposes of the numbers.
    package enum Stream: UInt64, Sendable {
        case rollout = 1, prompt, shuffle, loraInitialization, flowInitialization, evaluation, selfCheck, timesteps
        case replay
    }

    private let seed: UInt64

    /// Makes the seeds of a run from its own.
    package init(_ seed: UInt64) { self.seed = seed }

    /// Returns the seed for number `index` of `stream` in `epoch`.
    package func callAsFunction(_ stream: Stream, epoch: Int = 0, index: Int = 0) -> UInt64 {
        [stream.rawValue, UInt64(epoch), UInt64(index)].reduce(seed) { Self.mix($0 &+ 0x9E37_79B9_7F4A_7C15 &* ($1 &+ 1)) }
    }

    /// Returns the first `count` seeds of a stream.
    package func batch(_ stream: Stream, epoch: Int = 0, count: Int) -> [UInt64] {
        (0..<count).map { self(stream, epoch: epoch, index: $0) }
    }

    /// Returns a number from 0 to below 1.
    func uniform(_ stream: Stream) -> Double { Double(self(stream) >> 11) * 0x1p-53 }

    /// Returns a permutation of 0 ..< count.
    package func permutation(_ stream: Stream, epoch: Int, count: Int) -> [Int] {
        (0..<count).sorted { self(stream, epoch: epoch, index: $0) < self(stream, epoch: epoch, index: $1) }
    }

    /// SplitMix64's finaliser (Steele, Lea and Flood 2014).
    private static func mix(_ value: UInt64) -> UInt64 {
        var z = value
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
