import Tensors
import Yams

/// A type of settings.
package protocol SettingValue: Encodable, Equatable, Sendable {
    /// The values of the type in words that fit behind "is not".
    static var kind: String { get }
    /// The text that stands for a value in `--help` and in the tables of docs/configuration.md.
    static var placeholder: String { get }
    /// Reads a value of a YAML file; nil if it is of another kind.
    init?(node: Node)
    /// The value as it stands in a YAML file; reads back as the same bits.
    var node: Node { get }
}

extension SettingValue where Self: ScalarConstructible {
    package init?(node: Node) {
        guard let value = node.scalar.flatMap(Self.construct(from:)) else { return nil }
        self = value
    }
}

extension Node {
    /// Reads a number; nil for one to the base 60 (`1:30`). YAML 1.1 has these, but Yams traps on a long one.
    fileprivate func number<Number: ScalarConstructible & Numeric>() -> Number? {
        guard let scalar, !scalar.string.contains(":") else { return nil }
        return Number.construct(from: scalar)
    }
}

extension SettingValue where Self: ScalarConstructible & Numeric {
    package init?(node: Node) {
        guard let value: Self = node.number() else { return nil }
        self = value
    }
}

extension SettingValue where Self: ScalarRepresentable {
    package var node: Node { .scalar(represented()) }
}

extension Int: SettingValue {
    package static let kind = "a whole number"
    package static let placeholder = "n"
}

extension UInt64: SettingValue {
    package static let kind = "a whole number from 0 to \(UInt64.max)"
    package static let placeholder = "n"
}

extension Double: SettingValue {
    package static let kind = "a finite number"
    package static let placeholder = "x"

    /// Reads a number. As the 32-bit number that it becomes it must be finite, and zero only if it is zero.
    package init?(node: Node) {
        guard let value: Double = node.number(), Float(value).isFinite, Float(value) != 0 || value == 0 else { return nil }
        self = value
    }

    package var node: Node { .scalar(Node.Scalar(shortText, Tag(.float))) }

    /// The shortest text that reads back as the same number, as people write it: 50, 0.001, 3e-4.
    var shortText: String {
        let text = description.replacing("e-0", with: "e-")
        if text.hasSuffix(".0") { return String(text.dropLast(2)) }
        // From 1e-4 on, Swift writes 0.00025; below, 2.5e-05.
        guard let zeros = text.firstRange(of: "0.000"), magnitude < 1e-3, let first = text[zeros.upperBound...].first else { return text }
        let rest = text[zeros.upperBound...].dropFirst()
        return text[..<zeros.lowerBound] + String(first) + (rest.isEmpty ? "" : "." + rest) + "e-4"
    }
}

extension Bool: SettingValue {
    package static let kind = "true or false"
    package static let placeholder = "true|false"
}

extension String: SettingValue {
    package static let kind = "a text"
    package static let placeholder = "text"
}

extension [String]: SettingValue {
    package static let kind = "a list of texts"
    package static let placeholder = "text"

    /// Reads a list; a single value stands for a list of one.
    package init?(node: Node) {
        let texts = node.sequence?.map { $0.scalar?.string } ?? [node.scalar?.string]
        self = texts.compactMap { $0 }
        if count != texts.count { return nil }
    }

    package var node: Node { Node(map { Node.scalar($0.represented()) }) }
}

/// An enumeration whose raw values are the choices of a setting.
package protocol SettingChoice: SettingValue, CaseIterable, RawRepresentable<String> {}

extension SettingChoice {
    package static var kind: String { "one of " + allCases.map(\.rawValue).joined(separator: ", ") }
    package static var placeholder: String { allCases.map(\.rawValue).joined(separator: "|") }
    package init?(node: Node) {
        guard let value = node.scalar.flatMap({ Self(rawValue: $0.string) }) else { return nil }
        self = value
    }
    package var node: Node { .scalar(rawValue.represented()) }
}

extension Precision: SettingChoice {}
