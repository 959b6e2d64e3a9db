import CDAGCore

/// Reads tables that a plugin or an embedding program wrote, with the checks that `dag_reward.h` asks for.
package struct TableReader {
    /// The owner of the tables, at the start of messages.
    package let subject: String

    /// - Parameter subject: whose tables are read, at the start of messages.
    package init(subject: String) { self.subject = subject }

    /// Copies a text.
    /// - Throws: `RewardError` if there is none.
    package func text(_ pointer: UnsafePointer<CChar>?, _ what: String) throws -> String {
        guard let pointer else { throw RewardError("\(subject) gives no \(what)") }
        return String(cString: pointer)
    }

    /// Copies a struct.
    /// - Throws: `RewardError` if there is none, or its size is impossible.
    func element<Element: GrowingStruct & BitwiseCopyable>(_ base: UnsafePointer<Element>?, _ what: String) throws -> Element {
        try elements(base, 1, what)[0]
    }

    /// Copies an array of structs of the writer's version: the first one's `struct_size` is the stride.
    /// - Throws: `RewardError` if the array is missing, or the size is impossible.
    func elements<Element: GrowingStruct & BitwiseCopyable>(
        _ base: UnsafePointer<Element>?, _ count: UInt32, _ what: String
    ) throws -> [Element] {
        guard count > 0 else { return [] }
        guard let base else { throw RewardError("\(subject) gives no \(what)") }
        let stride = Int(UnsafeRawPointer(base).load(as: UInt32.self))
        guard stride >= Element.firstSize, stride % MemoryLayout<Element>.alignment == 0 else {
            throw RewardError(
                "\(subject) gives struct_size \(stride) in its \(what), where version \(DAG_REWARD_ABI_VERSION) has at least "
                    + "\(Element.firstSize)")
        }
        return (0..<Int(count)).map { plainData(at: UnsafeRawPointer(base) + $0 * stride, size: stride) }
    }

    /// Copies an array of plain values.
    /// - Throws: `RewardError` if there are none.
    func values<Element>(_ base: UnsafePointer<Element>?, _ count: UInt32, _ what: String) throws -> [Element] {
        guard let base, count > 0 else { throw RewardError("\(subject) gives no \(what)") }
        return Array(UnsafeBufferPointer(start: base, count: Int(count)))
    }

    /// Copies at least one objective, each with a name of its own.
    /// - Throws: `RewardError`.
    package func objectives(_ base: UnsafePointer<dag_reward_objective>?, _ count: UInt32) throws -> [RewardObjective] {
        let objectives = try elements(base, count, "objectives").map {
            guard [Int32(DAG_REWARD_MAXIMIZE), Int32(DAG_REWARD_MINIMIZE)].contains($0.direction) else {
                throw RewardError("\(subject) gives an objective the direction \($0.direction), which is neither 1 nor -1")
            }
            return RewardObjective(
                try text($0.name, "objective name"), $0.direction == Int32(DAG_REWARD_MAXIMIZE) ? .maximize : .minimize,
                detail: try text($0.description, "objective description"))
        }
        guard !objectives.isEmpty, Set(objectives.map(\.name)).count == objectives.count else {
            throw RewardError("\(subject) must declare objectives, each with a name of its own")
        }
        return objectives
    }
}
