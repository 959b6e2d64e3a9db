import Foundation
import Images

/// C functions as a reward. The name of a parameter says what is passed for it: a word of the vocabulary, or the result of an earlier call.
final class CFunctionReward: Reward, @unchecked Sendable {
    let name: String
    let objectives: [RewardObjective]
    let fingerprint: String
    private let score: [CFunction]
    /// Which of these calls gives the score.
    private let counting: Int
    /// Results of the calls at the start, by name.
    private let constants: [String: CValue]
    /// Texts of the programs, which are passed as pointers.
    private let texts: [String: UnsafeMutablePointer<CChar>]
    private let lock: NSLock

    /// What is known about a picture.
    static let vocabulary: [(name: String, isPointer: Bool, detail: String)] = [
        ("pixels", true, "uint8, red, green, blue, row by row; without const, a copy that may be changed"),
        ("gray", true, "uint8, one luma byte a pixel, row by row"),
        ("width", false, "pixels"), ("height", false, "pixels"),
        ("channels", false, "3"), ("stride", false, "bytes of a row of pixels"), ("size", false, "bytes of pixels"),
        ("prompt", true, "char, UTF-8, NUL-terminated"), ("metadata", true, "char, a JSON object"),
        ("id", false, "number of the sample"), ("seed", false, "for random numbers"),
        ("buffer", true, "room to write to, zeros at first"), ("buffer_size", false, "its bytes, twice the picture and 65536"),
    ]

    private static var help: String {
        "the words are "
            + vocabulary.map { "\($0.isPointer ? "*" : "")\($0.name) (\($0.detail))" }.joined(separator: ", ")
            + "; or write `name = 3`, 0x10, NULL or \"text\" for a constant, or the name of an earlier result; the types are \(CType.known)"
    }

    /// - Parameters:
    ///   - score: the calls for each picture. The result called `score` counts, or else the last one.
    ///   - setup: calls that are made once, now.
    init(_ library: CLibrary, score: String, setup: String) throws {
        let description = library.description
        (name, objectives, lock) = (description.name, description.objectives, library.lock)
        guard !score.isEmpty else {
            throw RewardError(
                "reward \(name): score= is missing: the prototype of the function to call, such as "
                    + "score=double sharpness(const uint8_t *pixels, int width, int height); \(Self.help)")
        }
        (self.score, counting, texts, constants) = try Self.prepare(library, score: score, setup: setup)
        // Where the file lies changes no score.
        let file = URL(fileURLWithPath: description.source).lastPathComponent
        fingerprint = "\(name) \(description.version) library=\(file) setup=\(setup) score=\(score)"
    }

    /// Reads the programs, finds the functions and makes the calls of the setup. Errors begin with the reward's name.
    private static func prepare(
        _ library: CLibrary, score: String, setup: String
    ) throws -> ([CFunction], Int, [String: UnsafeMutablePointer<CChar>], [String: CValue]) {
        do {
            let (setupCalls, scoreCalls, counting) = try read(setup: setup, score: score)
            let functions = try scoreCalls.map { try CFunction($0, in: library) }
            let texts = texts(setupCalls + scoreCalls)
            var constants: [String: CValue] = [:]
            try library.lock.withLock { for call in setupCalls { try run(CFunction(call, in: library), &constants, texts: texts) } }
            return (functions, counting, texts, constants)
        } catch let error as RewardError {
            throw RewardError("reward \(library.description.name): \(error)")
        }
    }

    /// Reads the programs and sees that they can be called. Errors show what may be written.
    private static func read(setup: String, score: String) throws -> (setup: [CCall], score: [CCall], counting: Int) {
        do {
            let (setupCalls, scoreCalls) = (try CCall.program(setup), try CCall.program(score))
            let made = try check(setupCalls, known: [:])
            _ = try check(scoreCalls, known: words.merging(made) { own, _ in own })
            return (setupCalls, scoreCalls, try counting(scoreCalls))
        } catch let error as RewardError {
            throw RewardError("\(error); \(help)")
        }
    }

    deinit { for text in texts.values { free(text) } }

    func result(_ batch: RewardBatch) throws -> RewardResult {
        lock.lock()
        defer { lock.unlock() }
        let images = batch.images
        let scratch = Scratch(images, for: score)
        var values: [Float] = []
        var reasons: [Int: String] = [:]
        for sample in 0..<batch.count {
            do {
                let value = try images.withUnsafeBytes { bytes in
                    let texts = [strdup(batch.prompts[sample]), strdup(batch.metadata[sample])]
                    defer { for text in texts { free(text) } }
                    var known = constants
                    known.merge(scratch.prepare(bytes.baseAddress! + sample * images.bytesPerImage)) { _, new in new }
                    known["width"] = .integer(Int64(images.width))
                    known["height"] = .integer(Int64(images.height))
                    known["channels"] = .integer(3)
                    known["stride"] = .integer(Int64(images.width * 3))
                    known["size"] = .integer(Int64(images.bytesPerImage))
                    known["prompt"] = .pointer(texts[0])
                    known["metadata"] = .pointer(texts[1])
                    known["id"] = .integer(Int64(bitPattern: batch.sampleIDs[sample]))
                    known["seed"] = .integer(Int64(bitPattern: batch.seeds[sample]))
                    return try score.map { try Self.run($0, &known, texts: self.texts) }[counting]
                }
                values.append(Self.number(value))
            } catch {
                reasons[sample] = "\(error)"
                values.append(.nan)
            }
        }
        return RewardResult(values: values, reasons: reasons)
    }

    /// Makes one call; its result becomes known under its name.
    @discardableResult private static func run(
        _ function: CFunction, _ known: inout [String: CValue], texts: [String: UnsafeMutablePointer<CChar>]
    ) throws -> CValue {
        let call = function.call
        let result = function(
            call.arguments.map { argument in
                switch argument.source {
                case .name(let name): known[name]!
                case .number(let number): number
                case .text(let text): .pointer(texts[text])
                case .null: .pointer(nil)
                }
            })
        if let wanted = CValue(number: call.resultName) {
            guard isEqual(result, wanted) else {
                throw RewardError("\(call.function) returned \(result) and not \(call.resultName)")
            }
        } else if !call.resultName.isEmpty {
            if case .pointer(nil) = result { throw RewardError("\(call.function) returned NULL") }
            known[call.resultName] = result
        }
        return result
    }

    /// Whether a result is what a number in a program says, exactly.
    private static func isEqual(_ value: CValue, _ wanted: CValue) -> Bool {
        switch (value, wanted) {
        case (.integer(let one), .integer(let other)): one == other
        case (.integer(let one), .floating(let other)): Double(one) == other
        case (.floating(let one), .integer(let other)): one == Double(other)
        case (.floating(let one), .floating(let other)): one == other
        case (.pointer(let pointer), _): isEqual(.integer(pointer == nil ? 0 : 1), wanted)
        case (_, .pointer): false
        }
    }

    private static func number(_ value: CValue) -> Float {
        switch value {
        case .integer(let number): Float(number)
        case .floating(let number): Float(number)
        case .pointer(let pointer): pointer == nil ? 0 : 1
        }
    }

    private static let words = Dictionary(uniqueKeysWithValues: vocabulary.map { ($0.name, $0.isPointer) })

    /// Sees that every argument is known and of a fitting type before anything is called. Returns what is known afterwards: whether it is a pointer.
    private static func check(_ calls: [CCall], known: [String: Bool]) throws -> [String: Bool] {
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

    /// Which call of the program gives the score: the last whose result is called so, or else the last. Throws if it returns no number.
    private static func counting(_ calls: [CCall]) throws -> Int {
        guard !calls.isEmpty else { throw RewardError("score= holds no call") }
        let index = calls.lastIndex { $0.resultName == "score" } ?? calls.count - 1
        guard calls[index].result != .void, calls[index].result != .pointer else {
            throw RewardError("`\(calls[index].text)` returns no number; name the result that counts, as in `int score = f(...)`")
        }
        return index
    }

    /// The programs' texts as C has them.
    private static func texts(_ calls: [CCall]) -> [String: UnsafeMutablePointer<CChar>] {
        let all = calls.flatMap(\.arguments).compactMap { argument -> String? in
            if case .text(let text) = argument.source { text } else { nil }
        }
        return Dictionary(uniqueKeysWithValues: Set(all).map { ($0, strdup($0)!) })
    }
}

/// Memory that functions are lent: what they may write to is theirs for one picture.
private final class Scratch {
    private let height, width: Int
    private let gray, buffer, copy: UnsafeMutableRawBufferPointer?
    private var bytes: Int { height * width * 3 }

    /// - Parameter functions: what they are not passed is not made.
    init(_ images: ImageBatch, for functions: [CFunction]) {
        (height, width) = (images.height, images.width)
        let arguments = functions.flatMap(\.call.arguments)
        func room(_ count: Int, if isNeeded: (CCall.Argument) -> Bool) -> UnsafeMutableRawBufferPointer? {
            arguments.contains(where: isNeeded) ? .allocate(byteCount: count, alignment: 64) : nil
        }
        gray = room(height * width) { $0.source == .name("gray") }
        buffer = room(2 * images.bytesPerImage + 65536) { $0.source == .name("buffer") || $0.source == .name("buffer_size") }
        copy = room(images.bytesPerImage) { $0.source == .name("pixels") && $0.isWritable }
    }

    deinit { for room in [gray, buffer, copy] { room?.deallocate() } }

    /// What is known of a picture's pixels.
    func prepare(_ picture: UnsafeRawPointer) -> [String: CValue] {
        if let gray { luma(picture.assumingMemoryBound(to: UInt8.self), gray) }
        if let buffer { memset(buffer.baseAddress!, 0, buffer.count) }
        if let copy { copy.baseAddress!.copyMemory(from: picture, byteCount: bytes) }
        return [
            "pixels": .pointer(copy?.baseAddress ?? UnsafeMutableRawPointer(mutating: picture)), "gray": .pointer(gray?.baseAddress),
            "buffer": .pointer(buffer?.baseAddress), "buffer_size": .integer(Int64(buffer?.count ?? 0)),
        ]
    }

    /// ITU-R 601 luma, as Pillow's conversion to `L`.
    private func luma(_ rgb: UnsafePointer<UInt8>, _ gray: UnsafeMutableRawBufferPointer) {
        for index in gray.indices {
            let (red, green, blue) = (Int(rgb[3 * index]), Int(rgb[3 * index + 1]), Int(rgb[3 * index + 2]))
            gray[index] = UInt8((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16)
        }
    }
}
