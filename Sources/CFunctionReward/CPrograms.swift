import Rewards

/// The calls that make up a reward, read from its settings `setup` and `score` and validated before anything
/// is called.
struct CPrograms {
    /// Calls that are made once.
    let setup: [CCall]
    /// Calls that are made for each image.
    let score: [CCall]
    /// The index of the score call whose result is the score.
    let counting: Int

    /// The names that a parameter may have: values that are known about each image.
    static let vocabulary: [(name: String, isPointer: Bool, detail: String)] = [
        ("pixels", true, "uint8, red, green, blue, row by row; without const, a copy that may be changed"),
        ("gray", true, "uint8, one luma byte a pixel, row by row"),
        ("width", false, "pixels"), ("height", false, "pixels"),
        ("channels", false, "3"), ("stride", false, "bytes of a row of pixels"), ("size", false, "bytes of pixels"),
        ("prompt", true, "char, UTF-8, NUL-terminated"), ("metadata", true, "char, a JSON object"),
        ("id", false, "number of the sample"), ("seed", false, "for random numbers"),
        ("buffer", true, "room to write to, zeros at first"), ("buffer_size", false, "its bytes, twice the image and 65536"),
    ]

    /// The part of an error that shows what may be written.
    static var help: String {
        "the words are "
            + vocabulary.map { "\($0.isPointer ? "*" : "")\($0.name) (\($0.detail))" }.joined(separator: ", ")
            + "; or write `name = 3`, 0x10, NULL or \"text\" for a constant, or the name of an earlier result; the types are \(CType.known)"
    }

    /// - Throws: `RewardError` that quotes the faulty call and shows what may be written.
    init(setup: String, score: String) throws {
        do {
            self.setup = try CCall.program(setup)
            self.score = try CCall.program(score)
            let words = Dictionary(uniqueKeysWithValues: Self.vocabulary.map { ($0.name, $0.isPointer) })
            let results = try Self.validate(self.setup, known: [:])
            _ = try Self.validate(self.score, known: words.merging(results) { own, _ in own })
            counting = try Self.counting(self.score)
        } catch let error as RewardError {
            throw RewardError("\(error); \(Self.help)")
        }
    }

    /// Validates that every argument is known and fits its type.
    /// - Parameter known: names, and whether each is a pointer.
    /// - Returns: the names that are known after the calls.
    private static func validate(_ calls: [CCall], known: [String: Bool]) throws -> [String: Bool] {
        var known = known
        for call in calls {
            for argument in call.arguments {
                let isPointer: Bool
                switch argument.source {
                case .name(let name):
                    guard let found = known[name] else { throw RewardError("`\(call.text)`: `\(name)` is not known") }
                    isPointer = found
                case .text, .null: isPointer = true
                case .number(let number):
                    isPointer = false
                    if case .integer = argument.type, case .floating = number {
                        throw RewardError("`\(call.text)`: \(number) is not a whole number, as its type asks")
                    }
                    guard argument.type.holds(number) else {
                        throw RewardError("`\(call.text)`: \(number) is more than its type holds")
                    }
                }
                guard isPointer == (argument.type == .pointer), argument.type != .void else {
                    throw RewardError(
                        "`\(call.text)`: \(argument.source) is \(isPointer ? "a pointer" : "a number"), which does not fit its type"
                    )
                }
            }
            if !call.resultName.isEmpty, CValue(number: call.resultName) == nil { known[call.resultName] = call.result == .pointer }
        }
        return known
    }

    /// Returns which call gives the score: the last whose result is called `score`, or else the last.
    private static func counting(_ calls: [CCall]) throws -> Int {
        guard !calls.isEmpty else { throw RewardError("score= holds no call") }
        let index = calls.lastIndex { $0.resultName == "score" } ?? calls.count - 1
        guard calls[index].result != .void, calls[index].result != .pointer else {
            throw RewardError("`\(calls[index].text)` returns no number; name the result that counts, as in `int score = f(...)`")
        }
        return index
    }
}
