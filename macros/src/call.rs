//! What stands between the parentheses of `quantized_model!`.

use qgraph_compiler::lower::InputFormat;
use qgraph_compiler::rust::{Code, TARGETS};
use qgraph_compiler::target::Target;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Ident, LitInt, LitStr, Token, Visibility, bracketed};

/// A call of the macro.
pub(crate) struct Call {
    /// Of the type, in item position.
    pub(crate) name: Option<(Visibility, Ident)>,
    /// The `.qgraph`, from the package's folder.
    pub(crate) path: LitStr,
    pub(crate) code: Code,
    /// Whether weights are copied into large pages.
    pub(crate) copied: bool,
    pub(crate) targets: Vec<Target>,
    pub(crate) batch: usize,
    pub(crate) threads: usize,
    pub(crate) input: InputFormat,
}

/// All options, for messages.
const OPTIONS: &str = "code, targets, batch, threads, input and weights";

impl Parse for Call {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let named = !input.peek(LitStr);
        let name = if named {
            let name = (input.parse()?, input.parse()?);
            input.parse::<Token![,]>()?;
            Some(name)
        } else {
            None
        };
        let mut call = Call {
            name,
            path: input.parse()?,
            code: Code::default(),
            copied: false,
            targets: TARGETS.to_vec(),
            batch: 1,
            threads: 1,
            input: InputFormat::F32,
        };
        let mut problems: Option<syn::Error> = None;
        let mut wrong = |e: syn::Error| match &mut problems {
            Some(problems) => problems.combine(e),
            None => problems = Some(e),
        };
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            if input.is_empty() {
                break;
            }
            let option: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            if seen.contains(&option) {
                wrong(syn::Error::new(option.span(), format!("`{option}` is given twice")));
            }
            if option == "code" {
                call.code = code(&input.parse()?).map_err(&mut wrong).unwrap_or_default();
            } else if option == "targets" {
                let names;
                bracketed!(names in input);
                let names = Punctuated::<Ident, Token![,]>::parse_terminated(&names)?;
                call.targets = names.iter().filter_map(|n| target(n).map_err(&mut wrong).ok()).collect();
            } else if option == "batch" {
                call.batch = count(&input.parse()?).map_err(&mut wrong).unwrap_or(1);
            } else if option == "threads" {
                call.threads = count(&input.parse()?).map_err(&mut wrong).unwrap_or(1);
            } else if option == "input" {
                call.input = format(&input.parse()?).map_err(&mut wrong).unwrap_or_default();
            } else if option == "weights" {
                call.copied = copied(&input.parse()?).map_err(&mut wrong).unwrap_or_default();
            } else {
                wrong(syn::Error::new(option.span(), format!("no option `{option}`; there are {OPTIONS}")));
                input.parse::<syn::Expr>()?;
            }
            seen.push(option);
        }
        problems.map_or(Ok(call), Err)
    }
}

fn code(name: &LitStr) -> syn::Result<Code> {
    match &name.value()[..] {
        "rust" => Ok(Code::Rust),
        "asm" => Ok(Code::Assembly),
        other => Err(syn::Error::new(name.span(), format!("no code {other:?}; there are \"rust\", \"asm\""))),
    }
}

fn target(name: &Ident) -> syn::Result<Target> {
    Target::named(&name.to_string()).ok_or_else(|| {
        let names = Target::ALL.map(|t| t.name).join(", ");
        syn::Error::new(name.span(), format!("no target `{name}`; there are {names}"))
    })
}

/// Images or threads: both have the bounds of the command line.
fn count(n: &LitInt) -> syn::Result<usize> {
    match n.base10_parse::<u16>() {
        Ok(value) if value > 0 => Ok(value.into()),
        _ => Err(syn::Error::new(n.span(), "give a number from 1 to 65535")),
    }
}

fn copied(name: &Ident) -> syn::Result<bool> {
    match &name.to_string()[..] {
        "included" => Ok(false),
        "copied" => Ok(true),
        _ => Err(syn::Error::new(name.span(), format!("no weights `{name}`; there are included, copied"))),
    }
}

fn format(name: &Ident) -> syn::Result<InputFormat> {
    match &name.to_string()[..] {
        "f32" => Ok(InputFormat::F32),
        "f32_nhwc" => Ok(InputFormat::F32Nhwc),
        "u8" => Ok(InputFormat::U8Nhwc),
        _ => Err(syn::Error::new(name.span(), format!("no input `{name}`; there are f32, f32_nhwc, u8"))),
    }
}
