import Foundation
@testable import Tensors

#if FUZZING

    // libFuzzer has the main function, and calls this with one input after the other.

    private let fuzzed: Target = {
        let name = ProcessInfo.processInfo.environment["DAG_FUZZ_TARGET"] ?? ""
        guard let target = Target(rawValue: name) else { leave("set DAG_FUZZ_TARGET to one of \(Target.names)") }
        return target
    }()

    /// Reads an input of libFuzzer's.
    @_cdecl("LLVMFuzzerTestOneInput")
    public func fuzz(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
        fuzzed.read(bytes.map { Data(bytes: $0, count: count) } ?? Data())
        return 0
    }

#else

    /// Without libFuzzer: reads each file once.
    @main
    enum Replay {
        static func main() throws {
            let arguments = CommandLine.arguments.dropFirst()
            if arguments == ["--list"] { return print(Target.names) }
            guard let target = arguments.first.flatMap(Target.init), arguments.count > 1 else {
                leave("usage: dag-fuzz TARGET FILE...; targets are \(Target.names)")
            }
            for file in arguments.dropFirst() {
                // Written at once: the last line names the file that ends the process.
                FileHandle.standardOutput.write(Data("\(file): ".utf8))
                FileHandle.standardOutput.write(Data("\(target.read(try Data(contentsOf: URL(fileURLWithPath: file))))\n".utf8))
            }
        }
    }

#endif

private func leave(_ line: String) -> Never {
    FileHandle.standardError.write(Data("dag-fuzz: \(line)\n".utf8))
    exit(2)
}

extension Target {
    static var names: String { allCases.map(\.rawValue).joined(separator: " ") }

    /// Has the parser read an input. It may refuse that by an error, and may not crash.
    /// - Returns: a line about what came of it.
    @discardableResult
    func read(_ input: Data) -> String {
        defer { _ = TensorError.take() }
        do { try parse(input) } catch { return "refused: \(error)" }
        return "read"
    }
}
