/// The configuration of UNet2DConditionModel or UNet2DModel (unet/config.json) with diffusers' defaults.
package struct UNetConfiguration: Decodable, Sendable {
    let className: String
    /// The height and width that the model was trained for, in latents or pixels.
    package let sampleSize: OneOrMany?
    /// The channels of a sample.
    package let inChannels: Int
    /// The channels of the prediction: those of a sample, unless a variance is predicted, too.
    package let outChannels: Int
    let blockOutChannels: [Int]
    let downBlockTypes: [String]
    let upBlockTypes: [String]
    /// null stands for no middle block (BK-SDM).
    let midBlockType: String?
    let layersPerBlock: OneOrMany
    let transformerLayersPerBlock: OneOrMany?
    /// null stands for one head in each block of a UNet2DModel.
    let attentionHeadDim: OneOrMany?
    /// The width of the text embedding; nil for an unconditional model.
    package let crossAttentionDim: Int?
    /// The groups of every group norm.
    package let normNumGroups: Int
    let attnNormNumGroups: Int?
    /// The eps of every group norm.
    package let normEps: Double
    let downsamplePadding: Int
    let freqShift: Double
    let actFn: String
    // null counts as false, as in Python.
    let useLinearProjection, flipSinToCos, centerInputSample, addAttention: Bool?

    private enum CodingKeys: String, CodingKey {
        case className = "_className"
        case sampleSize, inChannels, outChannels, blockOutChannels, downBlockTypes, upBlockTypes, midBlockType, layersPerBlock
        case transformerLayersPerBlock, attentionHeadDim, crossAttentionDim, useLinearProjection, normNumGroups, attnNormNumGroups
        case normEps, downsamplePadding, flipSinToCos, freqShift, centerInputSample, actFn, addAttention
    }

    private static let common: [String: JSONValue] = [
        "center_input_sample": false, "flip_sin_to_cos": true, "freq_shift": 0, "layers_per_block": 2, "downsample_padding": 1,
        "act_fn": "silu", "norm_num_groups": 32, "norm_eps": 1e-5, "attention_head_dim": 8,
    ]
    private static let commonFixed: [String: JSONValue] = [
        "mid_block_scale_factor": 1, "time_embedding_type": "positional", "time_embedding_dim": .null, "resnet_time_scale_shift": "default",
        "class_embed_type": .null, "num_class_embeds": .null,
    ]
    /// The defaults by class. Keys that stand in neither table do not change a result: they matter for
    /// training (`dropout`), for arithmetic (`upcast_attention`), or together with keys that are refused.
    private static let defaults: [String: ReferenceDefaults] = [
        "UNet2DConditionModel": ReferenceDefaults(
            common.merging(
                [
                    "in_channels": 4, "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 1280,
                    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
                    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
                    "mid_block_type": "UNetMidBlock2DCrossAttn", "transformer_layers_per_block": 1, "use_linear_projection": false,
                ], uniquingKeysWith: { $1 }),
            fixed: commonFixed.merging(
                [
                    "only_cross_attention": false, "num_attention_heads": .null, "dual_cross_attention": false, "encoder_hid_dim": .null,
                    "encoder_hid_dim_type": .null, "addition_embed_type": .null, "time_embedding_act_fn": .null, "timestep_post_act": .null,
                    "time_cond_proj_dim": .null, "conv_in_kernel": 3, "conv_out_kernel": 3, "class_embeddings_concat": false,
                    "reverse_transformer_layers_per_block": .null,
                ], uniquingKeysWith: { $1 })),
        "UNet2DModel": ReferenceDefaults(
            common.merging(
                [
                    "in_channels": 3, "out_channels": 3, "block_out_channels": [224, 448, 672, 896], "mid_block_type": "UNetMidBlock2D",
                    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
                    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"], "add_attention": true,
                ], uniquingKeysWith: { $1 }),
            fixed: commonFixed.merging(["downsample_type": "conv", "upsample_type": "conv"], uniquingKeysWith: { $1 })),
    ]

    /// Reads and validates a network's `config.json`.
    /// - Throws: `ModelError` that names the file and a value that is missing or not supported.
    static func read(_ folder: ModelFolder) throws -> UNetConfiguration {
        let file = folder.url.appendingPathComponent("config.json").path
        guard let name = try folder.object()["_class_name"] else { throw ModelError("\(file): '_class_name' is missing") }
        guard let defaults = defaults[name.text ?? ""] else {
            throw ModelError("\(file): model class \(name) is not supported (UNet2DConditionModel and UNet2DModel are)")
        }
        let configuration = try folder.decode(UNetConfiguration.self, defaults)
        try configuration.validate(file)
        return configuration
    }

    /// Whether the model takes text.
    package var isConditional: Bool { className == "UNet2DConditionModel" }

    /// Returns the number of attention heads of block `index`
    /// of the down path, which has `channels` channels.
    func heads(_ index: Int, channels: Int) -> Int {
        // diffusers' UNet2DConditionModel reads attention_head_dim
        // as the number of heads, for compatibility with SD 1.x.
        if isConditional, let attentionHeadDim { return attentionHeadDim[index] }
        return max(1, channels / (attentionHeadDim?[index] ?? channels))
    }

    /// Refuses configurations that would give other results than in diffusers.
    /// - Parameter file: the file, for the message.
    /// - Throws: `ModelError` that names the file and the value.
    private func validate(_ file: String) throws {
        func refuse(_ reason: String) -> ModelError { ModelError("\(file): \(reason) is not supported") }
        guard ["silu", "swish"].contains(actFn) else { throw refuse("act_fn '\(actFn)'") }
        if let midBlockType, !["UNetMidBlock2DCrossAttn", "UNetMidBlock2D"].contains(midBlockType) {
            throw refuse("mid_block_type '\(midBlockType)'")
        }
        if let attnNormNumGroups, attnNormNumGroups != normNumGroups {
            throw refuse("attn_norm_num_groups other than norm_num_groups")
        }
        if isConditional && attentionHeadDim == nil { throw refuse("attention_head_dim null") }
        guard downBlockTypes.count == blockOutChannels.count, upBlockTypes.count == blockOutChannels.count,
            !blockOutChannels.isEmpty
        else {
            throw ModelError("\(file): down_block_types, up_block_types and block_out_channels must have the same length")
        }
        for type in downBlockTypes + upBlockTypes where BlockAttention(blockType: type, heads: 1, layers: 1) == nil {
            throw refuse("block type '\(type)'")
        }
        let sides = sampleSize.map { [$0[0], $0[1]] } ?? []
        let layers = blockOutChannels.indices.flatMap { [layersPerBlock[$0], transformerLayersPerBlock?[$0] ?? 1] }
        guard ([inChannels, outChannels, crossAttentionDim ?? 1] + sides + blockOutChannels).allSatisfy(SizeLimits.widths.contains),
            layers.allSatisfy(SizeLimits.layers.contains), SizeLimits.blocks ~= blockOutChannels.count
        else { throw ModelError("\(file): \(SizeLimits.words)") }
        let groups = normNumGroups
        if let odd = blockOutChannels.first(where: { groups < 1 || $0 % groups != 0 }) {
            throw ModelError("\(file): \(odd) channels do not divide into norm_num_groups \(groups)")
        }
        if isConditional && crossAttentionDim == nil { throw ModelError("\(file): 'cross_attention_dim' is missing") }
    }
}
