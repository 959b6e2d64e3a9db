import ArgumentParser
import Commands
import DAGCore
import Foundation
import Models
import NN
import Support
import Tensors

@main
struct LoRACommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "dag-lora",
        abstract: "Takes LoRAs to other programs: merges them into a model, or writes them under other names.",
        discussion: """
            EXAMPLES
              A model that needs no LoRA:
                dag-lora merge --model models/tiny-sd --lora runs/demo --output warm-sd
              One file of two LoRAs, under the names of diffusers:
                dag-lora convert --model models/tiny-sd --lora runs/warm=0.7 --lora runs/small --names diffusers \\
                         --output both.safetensors
            """,
        version: DAGVersion.text, subcommands: [MergeCommand.self, ConvertCommand.self])

    static func line(for error: any Error) -> String { ErrorReport.line(for: error, .flag) }
    static func isUsageError(_ error: any Error) -> Bool { ErrorReport.isUsageError(error) }

    mutating func execute() throws { throw CleanExit.helpRequest(self) }
}

/// What both commands work on.
struct LoRAOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Folder of the model in diffusers layout.", valueName: "dir")) var model: String
    @Option(
        help: ArgumentHelp(
            """
            A LoRA with the names of dag-train (kohya), diffusers or peft: a file, or its folder. May be repeated: their sum counts, \
            each 1 or its weight.
            """, valueName: "file[=weight]"))
    var lora: [String]

    /// Reads the model's parts, and the adapters for its U-Net.
    func load() throws -> (parts: PipelineFolder, adapters: LoRAAdapters) {
        let parts = try PipelineFolder(ModelFolder(URL(fileURLWithPath: model)))
        let unet = try UNet(folder: parts.unet, dtype: .float32, device: .cpu)
        return (parts, try LoRAAdapters(contentsOf: lora.map(LoRASource.init), attachingTo: unet.layers, device: .cpu))
    }
}

struct ConvertCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "convert", abstract: "Writes LoRAs as one file, under the names of kohya's scripts or of diffusers.")

    @OptionGroup var options: LoRAOptions
    @Option(help: "Names of the tensors: kohya (which ComfyUI and most others read) or diffusers.") var names = "kohya"
    @Option(help: ArgumentHelp("The file to write; an older one is replaced.", valueName: "file.safetensors")) var output: String

    func execute() throws {
        guard let names = LoRANames(rawValue: names) else {
            let all = LoRANames.allCases.map(\.rawValue).joined(separator: " or ")
            throw ConfigurationError("\(setting: "names") must be \(all), not \(self.names)")
        }
        guard output.hasSuffix(".safetensors") else {
            throw ConfigurationError("\(setting: "output") \(output): give the file a name that ends in .safetensors")
        }
        try OutputFolder.writeAtomically(options.load().adapters.encoded(names), to: URL(fileURLWithPath: output))
        say(output)
    }
}
