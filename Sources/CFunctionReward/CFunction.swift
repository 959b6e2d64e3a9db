import CFFI
import Foundation
import Rewards

/// A C function of a library, ready to be called.
final class CFunction {
    let call: CCall
    private let address: UnsafeMutableRawPointer
    private let types: UnsafeMutablePointer<UnsafeMutablePointer<ffi_type>?>
    private var interface = ffi_cif()

    /// - Throws: `RewardError` if the library has no such function.
    init(_ call: CCall, in library: CLibrary) throws {
        self.call = call
        guard let address = dlsym(library.handle, call.function) else {
            throw RewardError("\(library.description.name) has no function \(call.function); `nm -D` lists what it has")
        }
        self.address = address
        types = .allocate(capacity: call.arguments.count + 1)
        for (index, argument) in call.arguments.enumerated() { (types + index).initialize(to: argument.type.ffi) }
        guard ffi_prep_cif(&interface, FFI_DEFAULT_ABI, UInt32(call.arguments.count), call.result.ffi, types) == FFI_OK else {
            throw RewardError("libffi cannot call `\(call.text)`")
        }
    }

    deinit { types.deallocate() }

    /// Calls the function as its prototype says.
    /// - Parameters:
    ///   - known: values by name; a result that has a name is added.
    ///   - texts: the texts of the program.
    /// - Returns: the result.
    /// - Throws: `RewardError` if the result is not the number that the program demands, or a null pointer
    ///   that it gives a name.
    @discardableResult func run(_ known: inout [String: CValue], texts: CTexts) throws -> CValue {
        let result = self(
            call.arguments.map { argument in
                switch argument.source {
                case .name(let name): known[name]!
                case .number(let number): number
                case .text(let text): .pointer(texts[text])
                case .null: .pointer(nil)
                }
            })
        if let wanted = CValue(number: call.resultName) {
            guard result.isEqual(to: wanted) else {
                throw RewardError("\(call.function) returned \(result) and not \(call.resultName)")
            }
        } else if !call.resultName.isEmpty {
            if case .pointer(nil) = result { throw RewardError("\(call.function) returned NULL") }
            known[call.resultName] = result
        }
        return result
    }

    /// - Parameter values: one for each argument.
    private func callAsFunction(_ values: [CValue]) -> CValue {
        var slots = zip(call.arguments, values).map { argument, value in argument.type.bits(of: value) }
        var result: UInt64 = 0
        slots.withUnsafeMutableBufferPointer { slots in
            // On a little-endian machine a narrow number is the start of a wide one.
            var pointers = slots.indices.map { UnsafeMutableRawPointer?(slots.baseAddress! + $0) }
            ffi_call(&interface, unsafeBitCast(address, to: (@convention(c) () -> Void).self), &result, &pointers)
        }
        return call.result.value(of: result)
    }
}

extension CType {
    fileprivate var ffi: UnsafeMutablePointer<ffi_type> {
        switch self {
        case .void: dag_ffi_void()
        case .float: dag_ffi_float()
        case .double: dag_ffi_double()
        case .pointer: dag_ffi_pointer()
        case .integer(let bytes, let isSigned): dag_ffi_integer(Int32(bytes), isSigned ? 1 : 0)
        }
    }

    fileprivate func bits(of value: CValue) -> UInt64 {
        switch (self, value) {
        case (.float, .integer(let number)): UInt64(Float(number).bitPattern)
        case (.float, .floating(let number)): UInt64(Float(number).bitPattern)
        case (.double, .integer(let number)): Double(number).bitPattern
        case (.double, .floating(let number)): number.bitPattern
        case (_, .integer(let number)): UInt64(bitPattern: number)
        case (_, .floating(let number)): UInt64(bitPattern: Int64(exactly: number.rounded(.towardZero)) ?? 0)
        case (_, .pointer(let pointer)): UInt64(UInt(bitPattern: pointer))
        }
    }

    fileprivate func value(of bits: UInt64) -> CValue {
        switch self {
        case .void: .integer(0)
        case .float: .floating(Double(Float(bitPattern: UInt32(truncatingIfNeeded: bits))))
        case .double: .floating(Double(bitPattern: bits))
        case .pointer: .pointer(UnsafeMutableRawPointer(bitPattern: UInt(bits)))
        case .integer(1, false): .integer(Int64(UInt8(truncatingIfNeeded: bits)))
        case .integer(1, true): .integer(Int64(Int8(truncatingIfNeeded: bits)))
        case .integer(2, false): .integer(Int64(UInt16(truncatingIfNeeded: bits)))
        case .integer(2, true): .integer(Int64(Int16(truncatingIfNeeded: bits)))
        case .integer(4, false): .integer(Int64(UInt32(truncatingIfNeeded: bits)))
        case .integer(4, true): .integer(Int64(Int32(truncatingIfNeeded: bits)))
        case .integer: .integer(Int64(bitPattern: bits))
        }
    }
}
