import Tensors

/// The sum of the gradients of an optimiser step's groups, always added up in the order of one binary tree
/// over the groups: the same bits however many ranks have computed them.
///
/// A rank holds the sums of the largest whole subtrees of its groups. For the total each rank adds up one
/// part of all subtrees' vectors for all: what travels is twice the vector, as in other ways of summing over
/// processes.
struct OrderedSum {
    /// Number of groups.
    private let count: Int
    /// The sums of subtrees, by the groups below them.
    private var sums: [Range<Int>: Tensor] = [:]

    init(count: Int) { self.count = count }

    /// Adds the vector of a group.
    mutating func add(_ vector: Tensor, of group: Int) {
        sums[group..<group + 1] = vector
        fold(0..<count)
    }

    /// Adds up the sums of two halves where both are there.
    private mutating func fold(_ node: Range<Int>) {
        guard node.count > 1, sums[node] == nil else { return }
        let (low, high) = Self.halves(node)
        fold(low)
        fold(high)
        guard let first = sums[low], let second = sums[high] else { return }
        sums[low] = nil
        sums[high] = nil
        sums[node] = first + second
    }

    /// Returns the sum over all groups, of which each rank has added its share.
    /// - Throws: errors of `Team.exchange`.
    func total(_ team: Team) throws -> Tensor {
        if let total = sums[0..<count] { return total }
        let mine = Self.subtrees(of: team.share(of: count), below: 0..<count).map { sums[$0]! }
        let parts = (0..<team.count).map { rank in
            let part = team.share(of: mine[0].count, rank: rank)
            return mine.map { $0.narrow(0, part.lowerBound, part.count) }
        }
        var part = OrderedSum(count: count)
        for (rank, received) in try team.exchange("gradients", parts: parts).enumerated() {
            for (node, sum) in zip(Self.subtrees(of: team.share(of: count, rank: rank), below: 0..<count), received) {
                part.sums[node] = sum
            }
        }
        part.fold(0..<count)
        return Tensor.cat(try team.exchange("summed gradients", part.sums[0..<count]!), 0).to(mine[0].device)
    }

    /// The largest subtrees below `node` whose groups are all in `share`, in order.
    private static func subtrees(of share: Range<Int>, below node: Range<Int>) -> [Range<Int>] {
        guard share.overlaps(node) else { return [] }
        guard node.clamped(to: share) != node else { return [node] }
        let (low, high) = halves(node)
        return subtrees(of: share, below: low) + subtrees(of: share, below: high)
    }

    private static func halves(_ node: Range<Int>) -> (Range<Int>, Range<Int>) {
        let middle = (node.lowerBound + node.upperBound) / 2
        return (node.lowerBound..<middle, middle..<node.upperBound)
    }
}
