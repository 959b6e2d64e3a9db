/// A cache of values that are computed from texts. Prompts recur along a trajectory and from epoch to epoch.
package struct TextCache<Value> {
    private var values: [String: Value] = [:]
    private let limit: Int

    /// Starts empty.
    /// - Parameter limit: the number of texts above which the cache is emptied.
    package init(limit: Int = 10_000) { self.limit = limit }

    /// Returns the values of `texts`, in their order.
    /// - Parameter compute: computes the values of texts that
    ///   are not in the cache; each of these is passed once.
    /// - Throws: only the error of `compute`.
    package mutating func values(_ texts: [String], compute: ([String]) throws -> [Value]) rethrows -> [Value] {
        if values.count > limit { values = [:] }
        let new = Set(texts).filter { values[$0] == nil }.sorted()
        if !new.isEmpty { for (text, value) in zip(new, try compute(new)) { values[text] = value } }
        return texts.map { values[$0]! }
    }
}
