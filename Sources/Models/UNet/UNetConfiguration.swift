/// The configuration of UNet2DConditionModel or UNet2DModel (unet/config.json) with diffusers' defaults.
package struct UNetConfiguration: Decodable, Sendable {
    let className: String
    /// The height and width that the model was trained for, in latents or pixels.
    package let sampleSize: OneOrMany?
    /// The channels of a sample.
    package let inChannels: Int
    let outChannels: Int
    let blockOutChannels: [Int]
    let downBlockTypes: [String]
    let upBlockTypes: [String]
    let midBlockType: String?
    let layersPerBlock: OneOrMany
    let transformerLayersPerBlock: OneOrMany?
    let attentionHeadDim: OneOrMany?
    let numAttentionHeads: OneOrMany?
    /// The width of the text embedding; nil for an unconditional model.
    package let crossAttentionDim: Int?
    let useLinearProjection: Bool?
    let normNumGroups: Int?
    let normEps: Double?
    let downsamplePadding: Int?
    let flipSinToCos: Bool?
    let freqShift: Double?
    let centerInputSample: Bool?
    // Features of some published models that are not supported here: read in order to refuse them.
    let actFn: String?
    let addAttention: Bool?
    let additionEmbedType: String?
    let classEmbedType: String?
    let numClassEmbeds: Int?
    let encoderHidDimType: String?
    let timeEmbeddingType: String?
    let resnetTimeScaleShift: String?
    let dualCrossAttention: Bool?
    let timeCondProjDim: Int?
    let midBlockScaleFactor: Double?
    let downsampleType: String?
    let upsampleType: String?
    let convInKernel: Int?
    let convOutKernel: Int?

    private enum CodingKeys: String, CodingKey {
        case className = "_className"
        case sampleSize, inChannels, outChannels, blockOutChannels, downBlockTypes, upBlockTypes, midBlockType, layersPerBlock
        case transformerLayersPerBlock, attentionHeadDim, numAttentionHeads, crossAttentionDim, useLinearProjection, normNumGroups, normEps
        case downsamplePadding, flipSinToCos, freqShift, centerInputSample, actFn, addAttention, additionEmbedType, classEmbedType
        case numClassEmbeds, encoderHidDimType, timeEmbeddingType, resnetTimeScaleShift, dualCrossAttention, timeCondProjDim
        case midBlockScaleFactor, downsampleType, upsampleType, convInKernel, convOutKernel
    }

    /// Whether the model takes text.
    package var isConditional: Bool { className == "UNet2DConditionModel" }

    /// Returns the number of attention heads of block `index`
    /// of the down path, which has `channels` channels.
    func heads(_ index: Int, channels: Int) -> Int {
        // diffusers' UNet2DConditionModel reads attention_head_dim
        // as the number of heads, for compatibility with SD 1.x.
        if isConditional { return (numAttentionHeads ?? attentionHeadDim ?? .one(8))[index] }
        return max(1, channels / (attentionHeadDim?[index] ?? channels))
    }

    /// Refuses configurations that would give other results than in diffusers.
    /// - Parameter file: the file, for the message.
    /// - Throws: `ModelError` that names the file and the value.
    func validate(_ file: String) throws {
        func refuse(_ reason: String) -> ModelError { ModelError("\(file): \(reason) is not supported") }
        guard ["UNet2DConditionModel", "UNet2DModel"].contains(className) else {
            throw refuse("model class '\(className)' (UNet2DConditionModel and UNet2DModel are)")
        }
        for (name, value, supported) in [
            ("act_fn", actFn, ["silu", "swish"]),
            ("addition_embed_type", additionEmbedType, []),
            ("class_embed_type", classEmbedType, []),
            ("encoder_hid_dim_type", encoderHidDimType, []),
            ("time_embedding_type", timeEmbeddingType, ["positional"]),
            ("resnet_time_scale_shift", resnetTimeScaleShift, ["default"]),
            ("downsample_type", downsampleType, ["conv"]),
            ("upsample_type", upsampleType, ["conv"]),
            ("mid_block_type", midBlockType, ["UNetMidBlock2DCrossAttn", "UNetMidBlock2D"]),
        ] {
            if let value, !supported.contains(value) { throw refuse("\(name) '\(value)'") }
        }
        if dualCrossAttention == true { throw refuse("dual_cross_attention") }
        if timeCondProjDim != nil { throw refuse("time_cond_proj_dim") }
        if numClassEmbeds != nil { throw refuse("num_class_embeds") }
        if (midBlockScaleFactor ?? 1) != 1 { throw refuse("mid_block_scale_factor other than 1") }
        if (convInKernel ?? 3) != 3 || (convOutKernel ?? 3) != 3 { throw refuse("conv_in_kernel or conv_out_kernel other than 3") }
        guard downBlockTypes.count == blockOutChannels.count, upBlockTypes.count == blockOutChannels.count,
            !blockOutChannels.isEmpty
        else {
            throw ModelError("\(file): down_block_types, up_block_types and block_out_channels must have the same length")
        }
        for type in downBlockTypes + upBlockTypes where BlockAttention(blockType: type, heads: 1, layers: 1) == nil {
            throw refuse("block type '\(type)'")
        }
        let groups = normNumGroups ?? 32
        if let odd = blockOutChannels.first(where: { groups < 1 || $0 % groups != 0 }) {
            throw ModelError("\(file): \(odd) channels do not divide into norm_num_groups \(groups)")
        }
        if isConditional && crossAttentionDim == nil { throw ModelError("\(file): 'cross_attention_dim' is missing") }
    }
}

/// The presence of a middle block: `"mid_block_type": null` in unet/config.json stands for none (BK-SDM),
/// while a missing key stands for one.
struct MidBlockPresence: Decodable {
    private enum CodingKeys: String, CodingKey { case midBlockType }

    let hasMidBlock: Bool

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        hasMidBlock = try !(container.contains(.midBlockType) && container.decodeNil(forKey: .midBlockType))
    }
}
