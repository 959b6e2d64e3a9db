/// The scores of one objective of a batch.
package struct ObjectiveScores: Sendable, Equatable, Codable {
    /// The objective with its reward, such as `warmth/red`.
    package let name: String
    /// `[count]`; NaN where there is none.
    package let scores: [Float]

    /// - Parameters:
    ///   - name: the objective with its reward, such as `warmth/red`.
    ///   - scores: one for each sample; NaN where there is none.
    package init(_ name: String, _ scores: [Float]) {
        self.name = name
        self.scores = scores
    }
}

extension [ObjectiveScores] {
    /// The scores of the objective with this name, `[count]`; nil if it was not scored.
    package subscript(name: String) -> [Float]? { first { $0.name == name }?.scores }
}
