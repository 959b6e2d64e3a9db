import Foundation
import Support

extension PromptSet {
    /// Names of the built-in sets.
    ///
    /// - `simple-animals`: 45 common animals, the set that DDPO and DAG optimise the aesthetic score on.
    /// - `imagenet`: the 1,000 ImageNet class names with their synonyms, their set for JPEG size ("crane" is
    ///   in it twice: bird and machine).
    /// - `tiny-sd`: the 80 captions "a <item> on a <colour> background" of models/tiny-sd that leave the
    ///   item's colour open; `tiny-sd-open` is the same set under the name of its file there,
    ///   open-prompts.txt.
    ///
    /// Animals and classes are prompts as they stand ("dog", not "a dog"), as in the code published for DDPO
    /// (ddpo-pytorch, prompts.py: `from_file`) and for DAG (ml-diffusion-alignment-gflownet, the same
    /// function).
    package static let builtInNames = ["simple-animals", "imagenet", "tiny-sd", "tiny-sd-open"]

    /// Returns the prompts of a built-in set; nil for other names.
    static func builtIn(_ name: String) -> [String]? {
        switch name {
        case "simple-animals": PromptFile.lines(String(decoding: PackageResources.simple_animals_txt, as: UTF8.self))
        case "imagenet": PromptFile.lines(String(decoding: PackageResources.imagenet_txt, as: UTF8.self))
        case "tiny-sd", "tiny-sd-open": tinySD
        default: nil
        }
    }

    private static var tinySD: [String] {
        let items = ["tee", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
        let colours = ["red", "green", "blue", "yellow", "purple", "orange", "white", "black"]
        // "a orange": the model's training captions have "a" before every colour.
        return items.flatMap { item in colours.map { "a \(item) on a \($0) background" } }
    }

    /// Returns the remedy for a name that is neither a set nor a file.
    static func suggestion(for name: String) -> String {
        let known =
            "built-in sets are \(builtInNames.joined(separator: ", ")), and \(benchmarkNames.map { "\($0):PATH" }.joined(separator: ", "))"
        let asked = name.lowercased().replacing("_", with: "-")
        return asked.nearest(in: builtInNames).map { "did you mean \($0)? \(known)" } ?? "\(known), anything else is the path of a file"
    }
}
