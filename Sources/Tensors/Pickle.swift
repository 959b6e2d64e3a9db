import Foundation

/// A reader of Python's pickle, as far as torch.save uses it (protocols 2 to 5).
///
/// A pickle is a program that may call any Python function. This reader calls none: it knows the few
/// functions that build tensors and dictionaries, and replaces the result of any other by a placeholder.
///
/// Source: Python's pickletools, which describes each instruction.
struct Pickle {
    /// The values in a list or tuple; in a dictionary, keys and values by turns.
    final class Items { fileprivate(set) var values: [Value] = [] }

    enum Value {
        case none, mark
        case flag(Bool)
        case integer(Int)
        case number(Double)
        case text(String)
        case list(Items)
        case dictionary(Items)
        case tuple(Items)
        case global(String)
        case storage(key: String, dtype: DType?)
        case tensor(Tensor)
        /// A placeholder for any object that is not needed here.
        case other
    }

    /// The place of a tensor's elements in a storage, in elements.
    struct View {
        let key: String
        let dtype: DType
        let sizes, strides: [Int]
        let offset: Int
    }

    struct Problem: Error, CustomStringConvertible { let description: String }

    private let bytes: [UInt8]
    private var position = 0
    private var stack: [Value] = []
    private var memo: [Int: Value] = [:]
    /// Every container that was made, so that all can be emptied in the end.
    private var containers: [Items] = []
    private let tensor: (View) throws -> Tensor

    /// - Parameter tensor: makes a tensor over a storage of the archive.
    init(_ bytes: [UInt8], tensor: @escaping (View) throws -> Tensor) {
        self.bytes = bytes
        self.tensor = tensor
    }

    /// Runs the pickle and returns the tensors in its result.
    ///
    /// Names are made of the keys and indices of nested dictionaries and lists, as in `state.weights.0`.
    /// - Throws: `Problem`, or the error of `tensor`.
    mutating func tensors() throws -> [String: Tensor] {
        // Containers may hold themselves, or be nested as deep as the file is long. Emptying each one frees
        // them all without a leak and without deep recursion.
        defer { for items in containers { items.values = [] } }
        var result: [String: Tensor] = [:]
        var budget = Self.mostValues
        try collect(try load(), [], &result, &budget)
        return result
    }

    /// The largest depth of a tensor in nested containers.
    private static let deepest = 64
    /// The largest number of values that are looked at; those
    /// of a container count each time it is referred to.
    private static let mostValues = 1 << 22

    private func collect(_ value: Value, _ path: [String], _ result: inout [String: Tensor], _ budget: inout Int) throws {
        budget -= 1
        guard path.count <= Self.deepest, budget >= 0 else {
            throw problem("lists nested too deep, or too many,")
        }
        switch value {
        case .tensor(let tensor): result[path.joined(separator: ".")] = tensor
        case .list(let items):
            for (index, item) in items.values.enumerated() { try collect(item, path + [String(index)], &result, &budget) }
        case .dictionary(let items):
            for index in stride(from: 0, to: items.values.count, by: 2) {
                switch items.values[index] {
                case .text(let key): try collect(items.values[index + 1], path + [key], &result, &budget)
                case .integer(let key): try collect(items.values[index + 1], path + [String(key)], &result, &budget)
                default: break
                }
            }
        default: break
        }
    }

    /// Runs the program up to its STOP instruction and returns the value on top of the stack.
    private mutating func load() throws -> Value {
        while true {
            let code = try take(1).first!
            switch UInt8(code) {
            case UInt8(ascii: "."): return try pop()
            case 0x80: _ = try take(1)  // PROTO
            case 0x95: _ = try take(8)  // FRAME
            case UInt8(ascii: "("): stack.append(.mark)
            case UInt8(ascii: "0"): _ = try pop()
            case UInt8(ascii: "1"): _ = try popMark()
            case UInt8(ascii: "2"): stack.append(try top())
            case UInt8(ascii: "N"): stack.append(.none)
            case 0x88, 0x89: stack.append(.flag(code == 0x88))
            case UInt8(ascii: "J"): stack.append(.integer(Int(Int32(truncatingIfNeeded: try integer(4)))))
            case UInt8(ascii: "K"): stack.append(.integer(try integer(1)))
            case UInt8(ascii: "M"): stack.append(.integer(try integer(2)))
            case 0x8A: stack.append(.integer(try signed(integer(1))))
            case UInt8(ascii: "G"): stack.append(.number(Double(bitPattern: UInt64(bitPattern: Int64(try integer(8))).byteSwapped)))
            case UInt8(ascii: "X"): stack.append(.text(try text(integer(4))))
            case 0x8C, UInt8(ascii: "U"): stack.append(.text(try text(integer(1))))
            case 0x8D: stack.append(.text(try text(integer(8))))
            case UInt8(ascii: "T"), UInt8(ascii: "B"):
                _ = try take(integer(4))
                stack.append(.other)
            case UInt8(ascii: "C"):
                _ = try take(integer(1))
                stack.append(.other)
            case UInt8(ascii: "]"), 0x8F: stack.append(.list(container([])))  // a list or a set
            case UInt8(ascii: "}"): stack.append(.dictionary(container([])))
            case UInt8(ascii: ")"): stack.append(.tuple(container([])))
            case UInt8(ascii: "t"): stack.append(.tuple(container(try popMark())))
            case 0x85, 0x86, 0x87: stack.append(.tuple(container(try pop(Int(code) - 0x84))))
            case UInt8(ascii: "l"): stack.append(.list(container(try popMark())))
            case UInt8(ascii: "d"): stack.append(.dictionary(container(try pairs(popMark()))))
            case UInt8(ascii: "a"): try extend(pop(1))
            case UInt8(ascii: "s"): try extend(pop(2))
            case UInt8(ascii: "e"), UInt8(ascii: "u"), 0x90: try extend(popMark())
            case UInt8(ascii: "q"): memo[try integer(1)] = try top()
            case UInt8(ascii: "r"): memo[try integer(4)] = try top()
            case 0x94: memo[memo.count] = try top()
            case UInt8(ascii: "h"): stack.append(memo[try integer(1)] ?? .other)
            case UInt8(ascii: "j"): stack.append(memo[try integer(4)] ?? .other)
            case UInt8(ascii: "c"): stack.append(.global("\(try line()).\(try line())"))
            case 0x93:
                let name = try pop()
                guard case .text(let name) = name, case .text(let module) = try pop() else {
                    throw problem("a name that is not text")
                }
                stack.append(.global("\(module).\(name)"))
            case UInt8(ascii: "Q"): stack.append(try persistent(pop()))
            case UInt8(ascii: "R"), 0x81:
                let arguments = try pop()
                stack.append(try called(pop(), arguments))
            case UInt8(ascii: "b"): _ = try pop()  // the state of an object: its metadata
            default: throw problem("instruction \(code)")
            }
        }
    }

    /// Reads a reference to a storage: ('storage', type, key, device, number of elements).
    private func persistent(_ id: Value) throws -> Value {
        guard case .tuple(let tuple) = id, tuple.values.count >= 3, case .global(let type) = tuple.values[1],
            case .text(let key) = tuple.values[2]
        else {
            throw problem("a storage described in an unknown way")
        }
        return .storage(key: key, dtype: Self.types[type])
    }

    /// Returns the value that stands for the result of a call.
    private mutating func called(_ function: Value, _ arguments: Value) throws -> Value {
        guard case .global(let name) = function, case .tuple(let tuple) = arguments else { return .other }
        let parts = tuple.values
        switch name {
        case "collections.OrderedDict", "collections.defaultdict": return .dictionary(container([]))
        case "torch._utils._rebuild_parameter": return parts.first ?? .other
        case "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3", "torch._utils._rebuild_tensor":
            guard parts.count >= 4, case .storage(let key, var dtype) = parts[0], case .integer(let offset) = parts[1],
                let sizes = Self.integers(parts[2]), let strides = Self.integers(parts[3]), sizes.count == strides.count,
                ([offset] + sizes + strides).allSatisfy({ $0 >= 0 })
            else { throw problem("a tensor described in an unknown way") }
            if parts.count > 6, case .global(let type) = parts[6] { dtype = Self.types[type] }
            guard let dtype else { return .other }  // complex and quantised numbers
            return .tensor(try tensor(View(key: key, dtype: dtype, sizes: sizes, strides: strides, offset: offset)))
        default: return .other
        }
    }

    private static let types: [String: DType] = [
        "torch.FloatStorage": .float32, "torch.HalfStorage": .float16, "torch.BFloat16Storage": .bfloat16, "torch.DoubleStorage": .float64,
        "torch.LongStorage": .int64, "torch.IntStorage": .int32, "torch.ByteStorage": .uint8, "torch.BoolStorage": .bool,
        "torch.float32": .float32, "torch.float16": .float16, "torch.bfloat16": .bfloat16, "torch.float64": .float64, "torch.int64": .int64,
        "torch.int32": .int32, "torch.uint8": .uint8, "torch.bool": .bool,
    ]

    private static func integers(_ value: Value) -> [Int]? {
        guard case .tuple(let items) = value else { return nil }
        let numbers = items.values.compactMap { item -> Int? in if case .integer(let number) = item { number } else { nil } }
        return numbers.count == items.values.count ? numbers : nil
    }

    // MARK: Containers

    private mutating func container(_ values: [Value]) -> Items {
        let items = Items()
        items.values = values
        containers.append(items)
        return items
    }

    /// Adds to the list or dictionary on top of the stack.
    /// Other objects are placeholders and stay as they are.
    private mutating func extend(_ values: [Value]) throws {
        switch try top() {
        case .list(let items): items.values += values
        case .dictionary(let items): items.values += try pairs(values)
        default: break
        }
    }

    private func pairs(_ values: [Value]) throws -> [Value] {
        guard values.count.isMultiple(of: 2) else { throw problem("a key without a value") }
        return values
    }

    // MARK: Stack and bytes

    private mutating func pop() throws -> Value {
        guard let value = stack.popLast() else { throw problem("an empty stack") }
        return value
    }

    /// The last `count` values, in their order.
    private mutating func pop(_ count: Int) throws -> [Value] {
        guard stack.count >= count else { throw problem("an empty stack") }
        defer { stack.removeLast(count) }
        return Array(stack.suffix(count))
    }

    private func top() throws -> Value {
        guard let value = stack.last else { throw problem("an empty stack") }
        return value
    }

    private mutating func popMark() throws -> [Value] {
        guard let index = stack.lastIndex(where: { if case .mark = $0 { true } else { false } }) else {
            throw problem("a missing mark")
        }
        defer { stack.removeSubrange(index...) }
        return Array(stack[(index + 1)...])
    }

    private mutating func take(_ count: Int) throws -> ArraySlice<UInt8> {
        guard count >= 0, count <= bytes.count - position else {
            throw problem("an end in the middle of an instruction")
        }
        defer { position += count }
        return bytes[position..<position + count]
    }

    /// Reads a little-endian number of `count` bytes.
    private mutating func integer(_ count: Int) throws -> Int {
        Int(truncatingIfNeeded: try take(count).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) })
    }

    private mutating func signed(_ count: Int) throws -> Int {
        guard count <= 8 else {
            _ = try take(count)
            return Int.max  // larger than any size
        }
        let value = try integer(count)
        return count == 0 || count == 8 || value < 1 << (8 * count - 1) ? value : value - 1 << (8 * count)
    }

    private mutating func text(_ count: Int) throws -> String { String(decoding: try take(count), as: UTF8.self) }

    private mutating func line() throws -> String {
        guard let end = bytes[position...].firstIndex(of: UInt8(ascii: "\n")) else {
            throw problem("a line without an end")
        }
        defer { position = end + 1 }
        return String(decoding: bytes[position..<end], as: UTF8.self)
    }

    private func problem(_ what: String) -> Problem { Problem(description: "\(what) in its pickle, at byte \(position)") }
}
