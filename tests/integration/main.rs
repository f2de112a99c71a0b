//! The one integration binary: claims about the product's behaviour, made through its public faces.
