/// What was computed from texts, for when they come again: prompts do, along a trajectory and from epoch to epoch.
public struct TextCache<Value> {
    private var values: [String: Value] = [:]
    private let limit: Int

    /// - Parameter limit: with more texts than this it starts anew.
    public init(limit: Int = 10_000) { self.limit = limit }

    /// The values of `texts`, in their order.
    /// - Parameter compute: gives those of texts that are not there yet, each of which it is asked for once.
    public mutating func values(_ texts: [String], compute: ([String]) throws -> [Value]) rethrows -> [Value] {
        if values.count > limit { values = [:] }
        let new = Set(texts).filter { values[$0] == nil }.sorted()
        if !new.isEmpty { for (text, value) in zip(new, try compute(new)) { values[text] = value } }
        return texts.map { values[$0]! }
    }
}
